//! A value of a pickle to walk from: typed looks at what lies there, through the classes that only wrap it.

use super::{Item, Object, Pickle, Value, numpy};

/// A value and the pickle it belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    pickle: &'a Pickle,
    value: Value,
}

impl<'a> Node<'a> {
    pub(super) fn new(pickle: &'a Pickle, value: Value) -> Self {
        Self { pickle, value }
    }

    /// The value itself.
    pub fn value(self) -> Value {
        self.value
    }

    /// The content of a value that is larger than a number.
    pub fn item(self) -> Option<&'a Item> {
        self.pickle.item(self.value)
    }

    /// Whether this is Python's `None`.
    pub fn is_none(self) -> bool {
        self.value == Value::None
    }

    /// A bool, numpy's too.
    pub fn as_bool(self) -> Option<bool> {
        match self.value {
            Value::Bool(flag) => Some(flag),
            _ => numpy::scalar(self).and_then(|s| s.as_bool()),
        }
    }

    /// An integer, numpy's too.
    pub fn as_i64(self) -> Option<i64> {
        match self.value {
            Value::Int(number) => Some(number),
            _ => numpy::scalar(self).and_then(|s| s.as_i64()),
        }
    }

    /// A float or an integer, numpy's too.
    pub fn as_f64(self) -> Option<f64> {
        match self.value {
            Value::Float(number) => Some(number),
            Value::Int(number) => Some(number as f64),
            _ => numpy::scalar(self).map(|s| s.as_f64()),
        }
    }

    /// A size: an integer that is not negative.
    pub fn as_size(self) -> Option<usize> {
        self.as_i64().and_then(|number| usize::try_from(number).ok())
    }

    /// Text.
    pub fn as_str(self) -> Option<&'a str> {
        match self.item()? {
            Item::Str(text) => Some(text),
            _ => None,
        }
    }

    /// Bytes, also as protocol 2 spells those of Python 3 (`_codecs.encode(text, 'latin1')`).
    pub fn bytes(self) -> Option<std::borrow::Cow<'a, [u8]>> {
        match self.item()? {
            Item::Bytes(bytes) => Some(bytes.into()),
            Item::Str(text) => {
                let narrow: Option<Vec<u8>> =
                    text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
                narrow.map(Into::into)
            }
            Item::Object(_) if self.class() == Some("_codecs.encode") => {
                let text = self.args()?.elements()?.next()?;
                text.as_str()?;
                text.bytes()
            }
            _ => None,
        }
    }

    /// Elements of a list, tuple, set, or of an object that was filled like one.
    pub fn elements(self) -> Option<impl ExactSizeIterator<Item = Node<'a>> + Clone> {
        let values: &[Value] = match self.item()? {
            Item::List(values) | Item::Tuple(values) | Item::Set(values) => values,
            // torch.Size((2, 3)) and its like carry their elements in one tuple.
            Item::Object(object) if object.appended.is_empty() && object.pairs.is_empty() => {
                match self.pickle.item(object.args)? {
                    Item::Tuple(args) if args.len() == 1 => match self.pickle.item(args[0])? {
                        Item::List(values) | Item::Tuple(values) => values,
                        _ => return None,
                    },
                    _ => return None,
                }
            }
            Item::Object(object) => &object.appended,
            _ => return None,
        };
        let pickle = self.pickle;
        Some(values.iter().map(move |&value| Node { pickle, value }))
    }

    /// Entries of a dict, or of an object that is one (`OrderedDict`, `defaultdict`) or was filled like one.
    pub fn entries(self) -> Option<impl Iterator<Item = (Node<'a>, Node<'a>)> + Clone> {
        let (pairs, listed): (&[(Value, Value)], &[Value]) = match self.item()? {
            Item::Dict(pairs) => (pairs, &[]),
            // Python 2 wrote OrderedDict([[key, value], ..]).
            Item::Object(object) if self.class().is_some_and(is_dict) => {
                (&object.pairs, self.listed(object))
            }
            Item::Object(object) if !object.pairs.is_empty() => (&object.pairs, &[]),
            _ => return None,
        };
        let pickle = self.pickle;
        let node = move |value| Node { pickle, value };
        let listed = listed.iter().filter_map(move |&pair| match pickle.item(pair)? {
            Item::List(pair) | Item::Tuple(pair) if pair.len() == 2 => Some((pair[0], pair[1])),
            _ => None,
        });
        Some(listed.chain(pairs.iter().copied()).map(move |(k, v)| (node(k), node(v))))
    }

    fn listed(self, object: &Object) -> &'a [Value] {
        let first = match self.pickle.item(object.args) {
            Some(Item::Tuple(args)) if args.len() == 1 => args[0],
            _ => return &[],
        };
        match self.pickle.item(first) {
            Some(Item::List(pairs)) => pairs,
            _ => &[],
        }
    }

    /// The entry of a dict, or the attribute of an object, with this name; the last one, if there are several.
    pub fn get(self, key: &str) -> Option<Node<'a>> {
        let of = |node: Node<'a>| {
            node.entries()?.filter(|(k, _)| k.as_str() == Some(key)).last().map(|(_, v)| v)
        };
        of(self).or_else(|| of(self.attributes()?))
    }

    /// The class or function an object was made by (`argparse.Namespace`), or the class itself that lies here.
    pub fn class(self) -> Option<&'a str> {
        match self.item()? {
            Item::Global(name) => Some(name),
            // Old PyTorch wraps the classes of modules: ('module', class, source file, source).
            Item::Persistent(id) => {
                let mut id = self.pickle.at(*id).elements()?;
                id.next().filter(|kind| kind.as_str() == Some("module"))?;
                id.next()?.global()
            }
            Item::Object(object) => {
                let made_by = self.pickle.at(object.class);
                match made_by.global() {
                    // Protocols 0 and 1 rebuild plain classes by copy_reg._reconstructor(class, object, None).
                    Some("copy_reg._reconstructor" | "copyreg._reconstructor") => {
                        self.args()?.elements()?.next()?.global()
                    }
                    Some(name) => Some(name),
                    None => {
                        matches!(made_by.item()?, Item::Persistent(_)).then(|| made_by.class())?
                    }
                }
            }
            _ => None,
        }
    }

    fn global(self) -> Option<&'a str> {
        match self.item()? {
            Item::Global(name) => Some(name),
            _ => None,
        }
    }

    /// What an object was called with: a tuple.
    pub fn args(self) -> Option<Node<'a>> {
        match self.item()? {
            Item::Object(object) => Some(self.pickle.at(object.args)),
            _ => None,
        }
    }

    /// What an object's `__setstate__` or `__dict__` would have been given.
    pub fn attributes(self) -> Option<Node<'a>> {
        match self.item()? {
            Item::Object(object) if object.state != Value::None => {
                Some(self.pickle.at(object.state))
            }
            _ => None,
        }
    }

    /// What this is, for messages.
    pub fn describe(self) -> String {
        match (self.value, self.item()) {
            (_, Some(Item::Object(_))) => {
                format!("a python object of {}", self.class().unwrap_or("an unnamed class"))
            }
            (_, Some(Item::Global(name))) => format!("the python class {name}"),
            (_, Some(Item::Persistent(_))) => "a persistent id".into(),
            (_, Some(Item::Str(_))) => "a string".into(),
            (_, Some(Item::Bytes(_))) => "bytes".into(),
            (_, Some(Item::List(_))) => "a list".into(),
            (_, Some(Item::Tuple(_))) => "a tuple".into(),
            (_, Some(Item::Set(_))) => "a set".into(),
            (_, Some(Item::Dict(_))) => "a dict".into(),
            (_, Some(Item::Huge)) => "an integer beyond 64 bits".into(),
            (Value::Bool(_), _) => "a bool".into(),
            (Value::Int(_), _) => "an integer".into(),
            (Value::Float(_), _) => "a float".into(),
            _ => "None".into(),
        }
    }
}

/// Classes whose entries are set one by one.
fn is_dict(class: &str) -> bool {
    let name = class.rsplit('.').next().unwrap_or(class);
    ["OrderedDict", "defaultdict", "dict", "Counter", "StateDict"].contains(&name)
}
