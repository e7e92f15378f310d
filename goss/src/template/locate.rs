//! Where a template fails. The engine tells what went wrong and not where, so the template is run again with ever
//! more of it until it fails: once for each action up to the one at fault, and only after a failure.

use gotmpl::parse::{ListNode, Node};

/// The byte offset in the source of the action that makes `fails` true. `fails` runs a tree.
pub(super) fn failing(tree: &ListNode, fails: &dyn Fn(ListNode) -> bool) -> usize {
    within(tree, fails).unwrap_or(0)
}

fn within(list: &ListNode, fails: &dyn Fn(ListNode) -> bool) -> Option<usize> {
    let first = |count: usize| ListNode { pos: list.pos, nodes: list.nodes[..count].to_vec() };
    let at = (0..list.nodes.len()).find(|index| fails(first(index + 1)))?;
    let node = &list.nodes[at];
    // The same list up to the node, with another in its place.
    let instead = |other: Node| {
        let mut shorter = first(at);
        shorter.nodes.push(other);
        fails(shorter)
    };
    match node {
        Node::If(branch) | Node::Range(branch) | Node::With(branch) => {
            let again = |changed| match node {
                Node::If(_) => Node::If(changed),
                Node::With(_) => Node::With(changed),
                _ => Node::Range(changed),
            };
            let mut bare = branch.clone();
            bare.body.nodes.clear();
            bare.else_body = None;
            if instead(again(bare.clone())) {
                return Some(branch.pipe.pos.offset);
            }
            let in_body = within(&branch.body, &|body| {
                let mut changed = bare.clone();
                changed.body = body;
                instead(again(changed))
            });
            in_body.or_else(|| {
                let other = branch.else_body.as_ref()?;
                within(other, &|body| {
                    let mut changed = bare.clone();
                    changed.else_body = Some(body);
                    instead(again(changed))
                })
            })
        }
        Node::List(inner) => within(inner, &|inner| instead(Node::List(inner))),
        Node::Action(action) => Some(action.pipe.pos.offset),
        Node::Template(call) => Some(call.pos.offset),
        Node::Text(text) => Some(text.pos.offset),
        Node::Define(define) => Some(define.pos.offset),
        Node::Break(pos) | Node::Continue(pos) => Some(pos.offset),
    }
}
