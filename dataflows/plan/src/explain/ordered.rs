//! Operators over ordered partitions as text.

use super::{bound, call_text, emit};
use crate::{
    Frame, FrameBound, FrameUnits, OrderColumn, Over, OverCall, OverClosing, OverFunction, PartitionWindow, Ranking, TopN,
};

/// `topn row_number <= 3 by [#0] order [#1 desc] emit=changes`.
pub(super) fn topn(topn: &TopN) -> String {
    let ranking = ranking(topn.ranking);
    let bounds = match (topn.first, topn.last) {
        (first, u64::MAX) => format!(">= {first}"),
        (first, last) if first == last => format!("= {first}"),
        (1, last) => format!("<= {last}"),
        (first, last) => format!("in {first}..{last}"),
    };
    let numbered = if topn.numbered { " numbered" } else { "" };
    format!("topn {ranking} {bounds}{}{numbered} emit={}", parts(&topn.partition, &topn.order, &topn.window), emit(topn.emit))
}

fn ranking(ranking: Ranking) -> &'static str {
    match ranking {
        Ranking::RowNumber => "row_number",
        Ranking::Rank => "rank",
        Ranking::DenseRank => "dense_rank",
    }
}

/// `over by [#0] order [#1] compute [sum(#2) rows -2..0] emit=changes`.
pub(super) fn over(over: &Over) -> String {
    let (window, closing) = match &over.closing {
        Some(OverClosing::Window(window)) => (Some(window.clone()), ""),
        Some(OverClosing::Time) => (None, " closing by time"),
        None => (None, ""),
    };
    let calls: Vec<String> = over.calls.iter().map(call).collect();
    let parts = parts(&over.partition, &over.order, &window);
    format!("over{parts}{closing} compute [{}] emit={}", calls.join(", "), emit(over.emit))
}

fn call(call: &OverCall) -> String {
    let framed = |text: String| match call.frame {
        Frame::WHOLE => text,
        frame => format!("{text} {}", frame_text(frame)),
    };
    match &call.function {
        OverFunction::Ranking(kind) => format!("{}()", ranking(*kind)),
        OverFunction::PercentRank => "percent_rank()".into(),
        OverFunction::CumeDist => "cume_dist()".into(),
        OverFunction::Ntile(buckets) => format!("ntile({buckets})"),
        OverFunction::Shift { argument, offset, default } => {
            let default = default.map_or(String::new(), |default| format!(" else #{default}"));
            format!("shift(#{argument} by {offset}{default})")
        }
        OverFunction::Nth { argument, position } => framed(format!("nth(#{argument} at {position})")),
        OverFunction::Aggregate(call) => framed(call_text(call)),
    }
}

fn frame_text(frame: Frame) -> String {
    let units = match frame.units {
        FrameUnits::Rows => "rows",
        FrameUnits::Groups => "groups",
        FrameUnits::Range => "range",
    };
    let bound = |bound: FrameBound| match bound {
        FrameBound::Unbounded => String::new(),
        FrameBound::Offset(offset) => offset.to_string(),
        FrameBound::Float(offset) => offset.to_string(),
    };
    format!("{units} {}..{}", bound(frame.start), bound(frame.end))
}

/// ` by [#0] window end #0 order [#1 desc]`.
fn parts(partition: &[usize], order: &[OrderColumn], window: &Option<PartitionWindow>) -> String {
    let columns: Vec<String> = partition.iter().map(|column| format!("#{column}")).collect();
    let mut text = format!(" by [{}]", columns.join(", "));
    if let Some(window) = window {
        text += &format!(" window {} #{}", bound(window.kind), partition[window.key]);
    }
    let order: Vec<String> = order
        .iter()
        .map(|order| {
            let direction = if order.descending { " desc" } else { "" };
            // NULLs stand last, or first if descending, unless it is said.
            let nulls = match (order.nulls_first, order.descending) {
                (true, false) => " nulls first",
                (false, true) => " nulls last",
                _ => "",
            };
            format!("#{}{direction}{nulls}", order.column)
        })
        .collect();
    text + &format!(" order [{}]", order.join(", "))
}
