//! The cheapest tree of joins over some relations: every way to split every subset of them, the smaller subsets first.

use std::cmp::Reverse;

/// A set of relations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Relations(u32);

impl Relations {
    pub(super) fn with(self, relation: usize) -> Self {
        Relations(self.0 | 1 << relation)
    }

    pub(super) fn and(self, other: Self) -> Self {
        Relations(self.0 | other.0)
    }

    pub(super) fn within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    pub(super) fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The only relation in it.
    pub(super) fn only(self) -> Option<usize> {
        (self.0.count_ones() == 1).then(|| self.0.trailing_zeros() as usize)
    }
}

/// Relations joined two by two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tree {
    Relation(usize),
    Join(Box<Tree>, Box<Tree>),
}

impl Tree {
    pub(super) fn join(left: Tree, right: Tree) -> Tree {
        Tree::Join(Box::new(left), Box::new(right))
    }

    fn relations(&self) -> Relations {
        match self {
            Tree::Relation(relation) => Relations::default().with(*relation),
            Tree::Join(left, right) => left.relations().and(right.relations()),
        }
    }
}

/// Joins without a condition, then rows.
pub(super) type Cost = (usize, f64);

/// What is joined: how many rows each relation has, and each condition with the part of all combinations it lets through.
pub(super) struct Graph {
    pub(super) rows: Vec<f64>,
    pub(super) conditions: Vec<(Relations, f64)>,
}

impl Graph {
    /// How many joins have no condition, which compare all pairs at every change, then the rows that joins give to joins.
    /// The result's own are the same in every tree.
    pub(super) fn cost(&self, tree: &Tree) -> Cost {
        match tree {
            Tree::Relation(_) => (0, 0.0),
            Tree::Join(left, right) => {
                let parts = [left, right].map(|side| (self.cost(side), side.relations()));
                self.joined(parts)
            }
        }
    }

    fn joined(&self, parts: [(Cost, Relations); 2]) -> Cost {
        let [left, right] = parts.map(|(_, relations)| relations);
        let all = left.and(right);
        let meets = |read: &Relations| read.within(all) && read.meets(left) && read.meets(right);
        let apart = !self.conditions.iter().any(|(read, _)| meets(read));
        let given = |relations: Relations| if relations.only().is_some() { 0.0 } else { self.rows_of(relations) };
        let crosses = parts.iter().map(|((crosses, _), _)| crosses).sum::<usize>();
        (crosses + usize::from(apart), parts.iter().map(|((_, rows), relations)| rows + given(*relations)).sum())
    }

    /// The rows of some relations, joined.
    fn rows_of(&self, relations: Relations) -> f64 {
        let of = |(relation, rows): (usize, &f64)| if relations.within_bit(relation) { *rows } else { 1.0 };
        let all: f64 = self.rows.iter().enumerate().map(of).product();
        let passed = self.conditions.iter().filter(|(read, _)| read.within(relations)).map(|(_, passed)| passed);
        passed.fold(all, |rows, passed| rows * passed).max(1.0)
    }

    /// The tree that costs least. Of equals the one whose right side is a relation: tables that several joins read are
    /// found by that.
    pub(super) fn best(&self) -> Tree {
        let subsets = 1usize << self.rows.len();
        let mut best: Vec<Option<(Cost, Tree)>> = vec![None; subsets];
        for subset in 1..subsets {
            let relations = Relations(subset as u32);
            best[subset] = match relations.only() {
                Some(relation) => Some(((0, 0.0), Tree::Relation(relation))),
                None => self.best_split(subset, &best),
            };
        }
        best.pop().flatten().expect("a set of relations can always be joined").1
    }

    fn best_split(&self, subset: usize, best: &[Option<(Cost, Tree)>]) -> Option<(Cost, Tree)> {
        let part_of = |part: usize| Some((best[part].as_ref()?.0, Relations(part as u32)));
        let mut found: Option<(Cost, usize)> = None;
        // Right sides from small to large, so that the first of equals is a relation if one of them is; of those the last
        // written, so that the order stays as it is where nothing speaks against it.
        let mut rights: Vec<usize> = (1..subset).filter(|part| part & !subset == 0).collect();
        rights.sort_by_key(|part| (part.count_ones(), Reverse(*part)));
        for right in rights {
            let cost = self.joined([part_of(subset & !right)?, part_of(right)?]);
            if found.is_none_or(|(least, _)| cost < least) {
                found = Some((cost, right));
            }
        }
        let (cost, right) = found?;
        let tree = |part: usize| best[part].as_ref().map(|(_, tree)| tree.clone());
        Some((cost, Tree::join(tree(subset & !right)?, tree(right)?)))
    }
}

impl Relations {
    fn within_bit(self, relation: usize) -> bool {
        self.0 >> relation & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(one: usize, other: usize) -> Relations {
        Relations::default().with(one).with(other)
    }

    fn by_hand(tree: &Tree) -> String {
        match tree {
            Tree::Relation(relation) => relation.to_string(),
            Tree::Join(left, right) => format!("({} {})", by_hand(left), by_hand(right)),
        }
    }

    #[test]
    fn what_makes_few_rows_is_joined_first() {
        // 0 and 1 share few values; 2 has a key that each row of 0 and of 1 names.
        let graph = Graph {
            rows: vec![1_000.0, 1_000.0, 10.0],
            conditions: vec![(pair(0, 1), 0.1), (pair(0, 2), 0.1), (pair(1, 2), 0.001)],
        };
        assert_eq!(by_hand(&graph.best()), "((1 2) 0)");
        let written = Tree::join(Tree::join(Tree::Relation(0), Tree::Relation(1)), Tree::Relation(2));
        assert_eq!((graph.cost(&written), graph.cost(&graph.best())), ((0, 100_000.0), (0, 10.0)));
    }

    #[test]
    fn two_pairs_are_joined_before_they_meet() {
        let rows = vec![1_000.0; 4];
        let conditions = vec![(pair(0, 1), 1e-6), (pair(2, 3), 1e-6), (pair(1, 2), 0.5)];
        assert_eq!(by_hand(&Graph { rows, conditions }.best()), "((0 1) (2 3))");
    }

    #[test]
    fn few_rows_are_no_reason_to_compare_all_pairs() {
        let graph = Graph { rows: vec![1e6, 3.0, 3.0], conditions: vec![(pair(0, 1), 0.3), (pair(0, 2), 0.3)] };
        assert_eq!(by_hand(&graph.best()), "((0 1) 2)");
    }

    #[test]
    fn relations_without_a_condition_come_last() {
        let rows = vec![100.0, 1_000.0, 1_000.0];
        let conditions = vec![(pair(1, 2), 0.001)];
        assert_eq!(by_hand(&Graph { rows, conditions }.best()), "((1 2) 0)");
    }
}
