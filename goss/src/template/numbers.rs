//! Functions on numbers, and what a value is.

use gotmpl::Value;

use super::functions::{ANY, Entry, text, whole};

/// The table; arguments come in sprig's order.
pub(super) static FUNCTIONS: &[Entry] = &[
    Entry("int", 1, 1, |a| Ok(Value::Int(whole(&a[0]).unwrap_or(0)))),
    Entry("int64", 1, 1, |a| Ok(Value::Int(whole(&a[0]).unwrap_or(0)))),
    Entry("atoi", 1, 1, |a| Ok(Value::Int(whole(&a[0]).unwrap_or(0)))),
    Entry("float64", 1, 1, |a| Ok(Value::Float(float(&a[0])))),
    Entry("add", 1, ANY, |a| folded(a, i64::checked_add)),
    Entry("mul", 1, ANY, |a| folded(a, i64::checked_mul)),
    Entry("max", 1, ANY, |a| folded(a, |one, other| Some(one.max(other)))),
    Entry("min", 1, ANY, |a| folded(a, |one, other| Some(one.min(other)))),
    Entry("add1", 1, 1, |a| folded(&[a[0].clone(), Value::Int(1)], i64::checked_add)),
    Entry("sub", 2, 2, |a| folded(a, i64::checked_sub)),
    Entry("div", 2, 2, |a| folded(a, i64::checked_div)),
    Entry("mod", 2, 2, |a| folded(a, i64::checked_rem)),
    Entry("ceil", 1, 1, |a| Ok(Value::Float(float(&a[0]).ceil()))),
    Entry("floor", 1, 1, |a| Ok(Value::Float(float(&a[0]).floor()))),
    Entry("round", 2, 3, |a| {
        let places = i32::try_from(whole(&a[1])?).map_err(|_| "so many places there are not")?;
        let up = a.get(2).map_or(0.5, float);
        let size = 10f64.powi(places);
        let shifted = float(&a[0]) * size;
        // Of a number below zero the rest is below zero too, so that it is never rounded up.
        let rounded = if shifted.fract() >= up { shifted.ceil() } else { shifted.floor() };
        Ok(Value::Float(rounded / size))
    }),
    Entry("kindOf", 1, 1, |a| Ok(text(kind(&a[0])))),
    Entry("kindIs", 2, 2, |a| Ok(Value::Bool(a[0].to_string() == kind(&a[1])))),
    Entry("typeOf", 1, 1, |a| Ok(text(named(&a[0])))),
    Entry("typeIs", 2, 2, |a| Ok(Value::Bool(a[0].to_string() == named(&a[1])))),
];

fn folded(arguments: &[Value], step: impl Fn(i64, i64) -> Option<i64>) -> Result<Value, String> {
    let mut numbers = arguments.iter().map(whole);
    let first = numbers.next().unwrap_or(Ok(0))?;
    let result = numbers.try_fold(first, |sum, number| {
        step(sum, number?).ok_or_else(|| "the result is no 64-bit number".to_owned())
    });
    result.map(Value::Int)
}

/// As a number, which what is none is 0 of.
fn float(value: &Value) -> f64 {
    match value {
        Value::String(text) => text.parse().unwrap_or(0.0),
        Value::Bool(truth) => f64::from(u8::from(*truth)),
        other => other.as_float().unwrap_or(0.0),
    }
}

/// What Go's reflection calls the kind of a value.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Nil => "invalid",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Uint(_) => "uint",
        Value::Float(_) => "float64",
        Value::String(_) => "string",
        Value::List(_) => "slice",
        Value::Map(_) => "map",
        Value::Function(_) => "func",
    }
}

/// As Go's `%T` writes it.
fn named(value: &Value) -> &'static str {
    match value {
        Value::Nil => "<nil>",
        Value::List(_) => "[]interface {}",
        Value::Map(_) => "map[string]interface {}",
        other => kind(other),
    }
}
