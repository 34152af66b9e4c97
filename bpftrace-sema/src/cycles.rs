//! Ways from something back to itself.

use bpftrace_ast::order::sort_by_number;

/// Where a node is on the way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    /// On the way to where the search is, and which of its edges comes next.
    Entered(usize),
    Done,
}

/// Cycles in a graph, given the nodes that each node leads to. Any cycle that is not among them shares a node with
/// one that is. Each begins and ends with the same node.
pub(crate) fn find_cycles(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut states = vec![State::New; edges.len()];
    let mut on_cycle = vec![false; edges.len()];
    let mut found = Vec::new();
    for start in 0..edges.len() {
        if states[start] != State::New {
            continue;
        }
        states[start] = State::Entered(0);
        let mut way = vec![start];
        while let Some(&at) = way.last() {
            let State::Entered(edge) = states[at] else {
                break;
            };
            let Some(&to) = edges[at].get(edge) else {
                states[at] = State::Done;
                way.pop();
                continue;
            };
            states[at] = State::Entered(edge + 1);
            match states[to] {
                State::New => {
                    states[to] = State::Entered(0);
                    way.push(to);
                }
                State::Entered(_) if !on_cycle[to] => {
                    let from = way.iter().position(|&node| node == to).unwrap_or(0);
                    let mut cycle = way[from..].to_vec();
                    for &node in &cycle {
                        on_cycle[node] = true;
                    }
                    cycle.push(to);
                    found.push(cycle);
                }
                State::Entered(_) | State::Done => {}
            }
        }
    }
    sort_by_number(&mut found, |cycle| cycle[0] as u64);
    found
}

#[cfg(test)]
mod tests {
    use super::find_cycles;

    #[test]
    fn each_cycle_is_found_once() {
        let edges = [vec![1, 3], vec![2], vec![1, 0], vec![3], vec![0]];
        assert_eq!(
            find_cycles(&edges),
            [vec![0, 1, 2, 0], vec![1, 2, 1], vec![3, 3]]
        );
        assert!(find_cycles(&[vec![1, 1], vec![2], vec![]]).is_empty());
    }

    #[test]
    fn long_ways_are_walked_once() {
        let n = 100_000;
        let mut edges: Vec<Vec<usize>> = (1..=n).map(|next| vec![next, n - 1]).collect();
        edges[n - 1] = vec![0];
        assert_eq!(find_cycles(&edges).len(), 1);
    }
}
