//! placeholder
use highwater_oracle::case::{Outcome, compiled, run_alone};
use highwater_oracle::generate::generate;

#[test]
fn probe() {
    let from: u64 = std::env::var("FROM").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let count: u64 = std::env::var("COUNT").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    let workers: usize = std::env::var("WORKERS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let (mut rejected, mut wrong, mut skipped) = (0, 0, 0);
    for seed in from..from + count {
        let generated = generate(seed);
        let sql = generated.text.sql();
        let job = match compiled(&sql) {
            Ok(job) => job,
            Err(error) => {
                rejected += 1;
                println!("seed {seed} REJECTED {error}\n{sql}");
                continue;
            }
        };
        let script = generated.script(seed, &job);
        let started = std::time::Instant::now();
        match run_alone(workers, &job, &script) {
            Outcome::Right(_) => {}
            Outcome::Skipped => skipped += 1,
            Outcome::Wrong(fault) => {
                wrong += 1;
                println!("seed {seed} WRONG {fault}\n{sql}");
                if std::env::var("SHRINK").is_ok() {
                    let failing = highwater_oracle::shrink::Failing { text: generated.text.clone(), script: script.clone(), workers, fault };
                    println!("SHRUNK {}", failing.shrink().report());
                } else if count == 1 { println!("{}\n{script}", highwater_plan::explain(&job)); }
            }
        }
        println!("seed {seed} took {:?} rows {}", started.elapsed(), script.rows());
    }
    println!("{count} cases, {rejected} rejected, {wrong} wrong, {skipped} skipped");
}
