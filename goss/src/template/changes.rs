//! Functions that change a mapping in place, for an engine whose values never change: sprig's `set`, `unset`, `merge`
//! and `mergeOverwrite`.
//!
//! What test files write is `{{ $_ := set $mapping "key" "value" }}`, for what it does to `$mapping`. Such an action becomes
//! two: `{{ $mapping = set $mapping … }}`, and the action itself on `$mapping`. A mapping that stands elsewhere
//! (`set .Vars.x …`) cannot be changed, and that is told.

use gotmpl::Value;
use gotmpl::parse::{Expr, ListNode, Node, PipeNode};

/// They change their first argument.
const CHANGING: [&str; 4] = ["merge", "mergeOverwrite", "set", "unset"];
/// Those that are called for that alone, and by what name they are called where it can be done.
const IN_PLACE: [(&str, &str); 2] = [("set", SET), ("unset", UNSET)];
/// No name that a template can write.
pub(super) const SET: &str = "set=";
pub(super) const UNSET: &str = "unset=";

/// What `set` and `unset` say where they cannot change anything.
pub(super) fn refused(_: &[Value]) -> Result<Value, String> {
    Err("only a mapping in a variable can be changed, at the end of an action: `{{ $_ := set $name \"key\" \"value\" }}`"
        .to_owned())
}

/// Has the actions of `list` change variables.
pub(super) fn spread(list: &mut ListNode) {
    for mut node in std::mem::take(&mut list.nodes) {
        match &mut node {
            Node::If(branch) | Node::Range(branch) | Node::With(branch) => {
                made_values(&mut branch.pipe);
                spread(&mut branch.body);
                branch.else_body.iter_mut().for_each(spread);
            }
            Node::List(inner) => spread(inner),
            Node::Define(define) => spread(&mut define.body),
            Node::Action(action) => {
                made_values(&mut action.pipe);
                if let Some((variable, changed)) = changed(&action.pipe) {
                    let mut first = action.clone();
                    first.pipe = changed;
                    list.nodes.push(Node::Action(first));
                    action.pipe.commands.truncate(1);
                    action.pipe.commands[0].args = vec![variable];
                }
            }
            Node::Template(call) => call.pipe.iter_mut().for_each(made_values),
            Node::Text(_) | Node::Break(_) | Node::Continue(_) => {}
        }
        list.nodes.push(node);
    }
}

/// The variable that a pipeline changes, and the pipeline that does so.
fn changed(pipe: &PipeNode) -> Option<(Expr, PipeNode)> {
    let [Expr::Identifier(_, function), variable, ..] = pipe.commands.last()?.args.as_slice()
    else {
        return None;
    };
    let Expr::Variable(_, name, fields) = variable else { return None };
    // `$` is what the whole template is given.
    if !CHANGING.contains(&function.as_str()) || !fields.is_empty() || name == "$" {
        return None;
    }
    let mut changed = pipe.clone();
    changed.decl = vec![name.clone()];
    changed.is_assign = true;
    if let Some(Expr::Identifier(_, function)) =
        changed.commands.last_mut().and_then(|command| command.args.first_mut())
    {
        rename(function);
    }
    Some((variable.clone(), changed))
}

/// A mapping that is made where it is changed needs no variable: `set (dict "a" 1) "b" 2`.
fn made_values(pipe: &mut PipeNode) {
    for command in &mut pipe.commands {
        if let [Expr::Identifier(_, function), Expr::Pipe(..), ..] = command.args.as_mut_slice() {
            rename(function);
        }
        for argument in &mut command.args {
            let mut inner = argument;
            while let Expr::Chain(_, of, _) = inner {
                inner = of;
            }
            if let Expr::Pipe(_, pipe) = inner {
                made_values(pipe);
            }
        }
    }
}

fn rename<Name: AsRef<str> + for<'a> From<&'a str>>(function: &mut Name) {
    if let Some((_, name)) = IN_PLACE.iter().find(|(name, _)| *name == (*function).as_ref()) {
        *function = (*name).into();
    }
}
