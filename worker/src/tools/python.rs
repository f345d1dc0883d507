//! Calls in the words of Python: `name(parameter="value", other=[1, 2])`, several in a list or one
//! after the other, each perhaps inside `print(…)`. Values are literals; nothing is evaluated.

use serde_json::{Map, Number, Value};

use super::Said;

/// Lists and dictionaries in each other.
const DEPTH_MAX: usize = 32;

/// Reads the whole of a text as calls.
pub(super) fn calls(text: &str) -> Option<Vec<Said>> {
    let mut reader = Reader { rest: text };
    let listed = reader.take("[");
    let mut calls = Vec::new();
    while !reader.is_empty() && !reader.at("]") {
        calls.push(reader.printed().or_else(|| reader.call())?);
        let _ = reader.take(",");
    }
    if listed {
        reader.expect("]")?;
    }
    reader.is_empty().then_some(calls)
}

/// What is left to read. A method that gives nothing may have read on; its caller gives up too, or
/// tried it on a copy.
#[derive(Clone, Copy)]
struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    /// Whether nothing is left but white space.
    fn is_empty(self) -> bool {
        self.rest.trim_start().is_empty()
    }

    /// Whether `symbol` comes next.
    fn at(self, symbol: &str) -> bool {
        self.rest.trim_start().starts_with(symbol)
    }

    /// Reads `symbol`, if it comes next.
    fn take(&mut self, symbol: &str) -> bool {
        let rest = self.rest.trim_start().strip_prefix(symbol);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Reads `symbol`, which must come next.
    fn expect(&mut self, symbol: &str) -> Option<()> {
        self.take(symbol).then_some(())
    }

    /// Reads the longest run of such characters, at least one.
    fn run(&mut self, belongs: impl Fn(char) -> bool) -> Option<&'a str> {
        let text = self.rest.trim_start();
        let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
        let (run, rest) = text.split_at(end);
        self.rest = rest;
        (!run.is_empty()).then_some(run)
    }

    fn name(&mut self) -> Option<&'a str> {
        self.run(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
    }

    /// `print(call)`; reads nothing if it is not that.
    fn printed(&mut self) -> Option<Said> {
        let mut reader = *self;
        reader.expect("print")?;
        reader.expect("(")?;
        let call = reader.call()?;
        reader.expect(")")?;
        *self = reader;
        Some(call)
    }

    fn call(&mut self) -> Option<Said> {
        let name = self.name()?.to_owned();
        self.expect("(")?;
        let mut parameters = Map::new();
        while !self.take(")") {
            let parameter = self.name()?.to_owned();
            self.expect("=")?;
            let value = self.value(DEPTH_MAX)?;
            if parameters.insert(parameter, value).is_some() {
                return None;
            }
            if !self.take(",") && !self.at(")") {
                return None;
            }
        }
        Some(Said { name, parameters })
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        let depth = depth.checked_sub(1)?;
        match self.rest.trim_start().chars().next()? {
            '"' => self.string('"').map(Value::String),
            '\'' => self.string('\'').map(Value::String),
            '[' => self.list(depth),
            '{' => self.dictionary(depth),
            first if first.is_ascii_alphabetic() => match self.name()? {
                "True" | "true" => Some(Value::Bool(true)),
                "False" | "false" => Some(Value::Bool(false)),
                "None" | "null" => Some(Value::Null),
                _ => None,
            },
            _ => {
                let number = self.run(|c| c.is_ascii_digit() || "+-.eE".contains(c))?;
                number.parse::<Number>().ok().map(Value::Number)
            }
        }
    }

    fn list(&mut self, depth: usize) -> Option<Value> {
        self.expect("[")?;
        let mut values = Vec::new();
        while !self.take("]") {
            values.push(self.value(depth)?);
            if !self.take(",") && !self.at("]") {
                return None;
            }
        }
        Some(Value::Array(values))
    }

    fn dictionary(&mut self, depth: usize) -> Option<Value> {
        self.expect("{")?;
        let mut fields = Map::new();
        while !self.take("}") {
            let Value::String(key) = self.value(1)? else {
                return None;
            };
            self.expect(":")?;
            fields.insert(key, self.value(depth)?);
            if !self.take(",") && !self.at("}") {
                return None;
            }
        }
        Some(Value::Object(fields))
    }

    fn string(&mut self, quote: char) -> Option<String> {
        let mut text = String::new();
        let mut chars = self.rest.trim_start().chars();
        chars.next()?;
        loop {
            match chars.next()? {
                end if end == quote => break,
                '\\' => text.push(match chars.next()? {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    same @ ('\\' | '\'' | '"') => same,
                    _ => return None,
                }),
                other => text.push(other),
            }
        }
        self.rest = chars.as_str();
        Some(text)
    }
}
