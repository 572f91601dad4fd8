//! Builds the tree from the events of the parser.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};

use super::scalar::{self, Schema};
use super::{Entry, Node, Value, YamlError};

/// The maximum depth of lists and maps. The tree is used by recursive functions.
const MAX_DEPTH: usize = 64;
/// The maximum size of the tree in bytes of text, plus [`NODE_BYTES`] for each value. Aliases
/// count as often as they occur.
const MAX_BYTES: usize = 8 * 1024 * 1024;
const NODE_BYTES: usize = 32;

/// Parses a document. An empty one is null.
///
/// # Errors
/// Returns an error if the text is not a single valid document or if it exceeds a limit.
pub(crate) fn parse(text: &str, schema: Schema) -> Result<Node, YamlError> {
    let mut builder = Builder {
        parser: Parser::new_from_str(text),
        schema,
        anchors: BTreeMap::new(),
        bytes: 0,
    };
    builder.document()
}

struct Builder<'input> {
    parser: Parser<'input, StrInput<'input>>,
    schema: Schema,
    anchors: BTreeMap<usize, Anchor>,
    bytes: usize,
}

/// A value that aliases can refer to.
struct Anchor {
    node: Node,
    bytes: usize,
    depth: usize,
}

/// A value, and the number of levels of lists and maps in it.
struct Built {
    node: Node,
    depth: usize,
}

impl<'input> Builder<'input> {
    fn document(&mut self) -> Result<Node, YamlError> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::DocumentStart(_) if root.is_some() => {
                    return Err(error(&span, "more than one document"));
                }
                Event::StreamStart
                | Event::DocumentStart(_)
                | Event::DocumentEnd
                | Event::Nothing => {}
                event => root = Some(self.node(event, span, 0)?.node),
            }
        }
        Ok(root.unwrap_or(Node {
            line: 1,
            is_literal_block: false,
            value: Value::Null,
        }))
    }

    fn next(&mut self) -> Result<(Event<'input>, Span), YamlError> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(scan_error)) => {
                let marker = scan_error.marker();
                Err(YamlError {
                    line: marker.line(),
                    column: marker.col() + 1,
                    message: scan_error.info().to_owned(),
                })
            }
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    /// Builds the value that starts with `event`. `level` is the number of open lists and maps.
    fn node(&mut self, event: Event<'input>, span: Span, level: usize) -> Result<Built, YamlError> {
        if level >= MAX_DEPTH {
            let message = format!("nested more than {MAX_DEPTH} levels deep");
            return Err(error(&span, &message));
        }
        let bytes_before = self.bytes;
        self.grow(NODE_BYTES, &span)?;
        let mut is_literal_block = false;
        let (value, depth, anchor) = match event {
            Event::Alias(id) => return self.alias(id, &span, level),
            Event::Scalar(text, style, anchor, tag) => {
                self.grow(text.len(), &span)?;
                is_literal_block = style == ScalarStyle::Literal;
                let value = self.scalar(&text, style, tag.as_deref(), &span)?;
                (value, 0, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                check_tag(tag.as_deref(), "seq", &span)?;
                let (items, depth) = self.list(level)?;
                (Value::List(items), depth, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                check_tag(tag.as_deref(), "map", &span)?;
                let (entries, depth) = self.map(level)?;
                (Value::Map(entries), depth, anchor)
            }
            _ => return Err(error(&span, "unexpected end")),
        };
        let node = Node {
            line: span.start.line(),
            is_literal_block,
            value,
        };
        if anchor > 0 {
            let bytes = self.bytes - bytes_before;
            self.grow(bytes, &span)?;
            let node = node.clone();
            self.anchors.insert(anchor, Anchor { node, bytes, depth });
        }
        Ok(Built { node, depth })
    }

    fn alias(&mut self, id: usize, span: &Span, level: usize) -> Result<Built, YamlError> {
        let Some(anchor) = self.anchors.get(&id) else {
            return Err(error(span, "the alias refers to a value that contains it"));
        };
        let (bytes, depth) = (anchor.bytes, anchor.depth);
        if level + depth >= MAX_DEPTH {
            let message = format!("nested more than {MAX_DEPTH} levels deep");
            return Err(error(span, &message));
        }
        self.grow(bytes, span)?;
        let node = self.anchors.get(&id).map(|anchor| anchor.node.clone());
        let mut node = node.ok_or_else(|| error(span, "unknown alias"))?;
        node.line = span.start.line();
        node.is_literal_block = false;
        Ok(Built { node, depth })
    }

    fn list(&mut self, level: usize) -> Result<(Vec<Node>, usize), YamlError> {
        let mut items = Vec::new();
        let mut depth = 1;
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok((items, depth));
            }
            let item = self.node(event, span, level + 1)?;
            depth = depth.max(item.depth + 1);
            items.push(item.node);
        }
    }

    fn map(&mut self, level: usize) -> Result<(Vec<Entry>, usize), YamlError> {
        let mut entries = Vec::new();
        let mut keys = std::collections::BTreeSet::new();
        let mut depth = 1;
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok((entries, depth));
            }
            let key = self.key(event, &span)?;
            if !keys.insert(key.clone()) {
                return Err(error(&span, &format!("the key `{key}` occurs twice")));
            }
            let (event, value_span) = self.next()?;
            let value = self.node(event, value_span, level + 1)?;
            depth = depth.max(value.depth + 1);
            entries.push(Entry {
                key,
                line: span.start.line(),
                node: value.node,
            });
        }
    }

    fn key(&mut self, event: Event<'input>, span: &Span) -> Result<String, YamlError> {
        match event {
            Event::Scalar(text, ScalarStyle::Plain, _, _) if text == "<<" => {
                Err(error(span, "merge keys (`<<`) are not supported"))
            }
            Event::Scalar(_, _, anchor, _) if anchor > 0 => {
                Err(error(span, "a key with an anchor is not supported"))
            }
            Event::Scalar(text, ..) => {
                self.grow(text.len(), span)?;
                Ok(text.into_owned())
            }
            _ => Err(error(span, "a key must be a text")),
        }
    }

    fn scalar(
        &self,
        text: &str,
        style: ScalarStyle,
        tag: Option<&Tag>,
        span: &Span,
    ) -> Result<Value, YamlError> {
        let is_plain = style == ScalarStyle::Plain;
        let Some(tag) = tag else {
            return Ok(match is_plain {
                true => scalar::plain(text, self.schema),
                false => Value::Text(text.to_owned()),
            });
        };
        match tag.suffix.as_str() {
            "str" if tag.is_yaml_core_schema() => Ok(Value::Text(text.to_owned())),
            "int" | "float" | "bool" | "null" if tag.is_yaml_core_schema() => {
                Ok(scalar::plain(text, self.schema))
            }
            _ => Err(error(span, &format!("the tag `{tag}` is not supported"))),
        }
    }

    fn grow(&mut self, bytes: usize, span: &Span) -> Result<(), YamlError> {
        self.bytes += bytes;
        match self.bytes > MAX_BYTES {
            true => Err(error(
                span,
                "too large; aliases count as often as they occur",
            )),
            false => Ok(()),
        }
    }
}

fn check_tag(tag: Option<&Tag>, expected: &str, span: &Span) -> Result<(), YamlError> {
    match tag {
        Some(tag) if !(tag.is_yaml_core_schema() && tag.suffix == expected) => {
            Err(error(span, &format!("the tag `{tag}` is not supported")))
        }
        _ => Ok(()),
    }
}

fn error(span: &Span, message: &str) -> YamlError {
    YamlError {
        line: span.start.line(),
        column: span.start.col() + 1,
        message: message.to_owned(),
    }
}
