//! A small reader for Maven's XML documents: elements and their text, within limits.
//!
//! Document type declarations are skipped and entities never expanded, so a document cannot grow
//! while it is read. Attributes, comments and namespaces carry no meaning in these documents.

use std::borrow::Cow;

use quick_xml::Reader;
use quick_xml::events::Event;

/// Longest document. Unit: bytes.
pub const XML_BYTES_MAX: usize = 4 * 1_024 * 1_024;

/// Most elements of a document.
const ELEMENTS_MAX: usize = 100_000;

/// Most elements around another.
const DEPTH_MAX: usize = 64;

/// Why bytes are not an XML document of ours.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum XmlError {
    /// Longer than a document may be. Unit: bytes.
    #[error("the XML document has {0} bytes, at most {XML_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// Not well-formed.
    #[error("the XML document is malformed: {0}")]
    Malformed(String),
    /// Too many or too deeply nested elements.
    #[error("the XML document has too many or too deeply nested elements")]
    TooMany,
}

/// An element with the text and the elements in it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Element {
    /// Its name without namespace prefix.
    pub name: String,
    /// The elements in it, in order.
    pub children: Vec<Self>,
    text: String,
}

impl Element {
    /// Reads a document and answers its root element.
    ///
    /// # Errors
    ///
    /// [`XmlError`]. Bytes that are not UTF-8 are read as Latin-1, the other encoding in use.
    pub fn parse(bytes: &[u8]) -> Result<Self, XmlError> {
        if XML_BYTES_MAX < bytes.len() {
            return Err(XmlError::TooLong(bytes.len()));
        }
        let text = decode(bytes);
        let mut reader = Reader::from_str(&text);
        // The last is the innermost open element; the first stands for the document itself.
        let mut open = vec![Self::default()];
        let mut elements = 0;
        loop {
            match reader.read_event().map_err(malformed)? {
                Event::Start(tag) => {
                    elements += 1;
                    if ELEMENTS_MAX < elements || DEPTH_MAX < open.len() {
                        return Err(XmlError::TooMany);
                    }
                    open.push(Self::named(tag.local_name().as_ref()));
                }
                Event::Empty(tag) => {
                    elements += 1;
                    if ELEMENTS_MAX < elements {
                        return Err(XmlError::TooMany);
                    }
                    adopt(&mut open, Self::named(tag.local_name().as_ref()));
                }
                Event::End(_) => {
                    let element = open.pop().unwrap_or_default();
                    adopt(&mut open, element);
                }
                Event::Text(text) => append(&mut open, &text),
                Event::CData(text) => append(&mut open, &text),
                Event::GeneralRef(entity) => append(&mut open, &resolve(&entity)),
                Event::Eof => break,
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
            }
        }
        let (Some(mut document), true) = (open.pop(), open.is_empty()) else {
            return Err(XmlError::Malformed("an element is not closed".into()));
        };
        match (document.children.pop(), document.children.is_empty()) {
            (Some(root), true) => Ok(root),
            _ => Err(XmlError::Malformed("want one root element".into())),
        }
    }

    /// The text directly in this element, without blanks around it.
    pub fn text(&self) -> &str {
        self.text.trim()
    }

    /// The first element in this one with this name.
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|it| it.name == name)
    }

    /// The elements named `inner` in the first element named `outer`: Maven's form of a list.
    pub fn list<'a>(&'a self, outer: &str, inner: &'a str) -> impl Iterator<Item = &'a Self> {
        self.child(outer)
            .into_iter()
            .flat_map(|it| &it.children)
            .filter(move |it| it.name == inner)
    }

    /// The text of a child, unless it is absent or blank.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.child(name).map(Self::text).filter(|it| !it.is_empty())
    }

    fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }
}

fn adopt(open: &mut [Element], element: Element) {
    if let Some(parent) = open.last_mut() {
        parent.children.push(element);
    }
}

fn append(open: &mut [Element], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

/// The character that a reference stands for. Entities that a document declares itself, or takes
/// from HTML, stay as they are written.
fn resolve(entity: &quick_xml::events::BytesRef<'_>) -> String {
    if let Ok(Some(character)) = entity.resolve_char_ref() {
        return character.to_string();
    }
    match &**entity {
        "lt" => "<".to_owned(),
        "gt" => ">".to_owned(),
        "amp" => "&".to_owned(),
        "apos" => "'".to_owned(),
        "quot" => "\"".to_owned(),
        other => format!("&{other};"),
    }
}

fn decode(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(_) => Cow::Owned(bytes.iter().map(|it| char::from(*it)).collect()),
    }
}

fn malformed(error: quick_xml::Error) -> XmlError {
    XmlError::Malformed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_and_text_are_read() {
        let xml = "\u{feff}<?xml version='1.0'?><!-- c --><p:a xmlns:p='x'><b> 1 &amp; &#50;</b>\
            <list><i>x</i><j/><i><![CDATA[<y>]]></i></list><e/></p:a>\n";
        let root = Element::parse(xml.as_bytes()).unwrap();
        assert_eq!((root.name.as_str(), root.value("b")), ("a", Some("1 & 2")));
        let items: Vec<_> = root.list("list", "i").map(Element::text).collect();
        assert_eq!((items, root.value("e")), (vec!["x", "<y>"], None));
    }

    #[test]
    fn entities_do_not_grow() {
        let xml =
            "<!DOCTYPE a [<!ENTITY x \"xxxxxxxxxx\"><!ENTITY y \"&x;&x;\">]><a>&y;&oslash;</a>";
        assert_eq!(
            Element::parse(xml.as_bytes()).unwrap().text(),
            "&y;&oslash;"
        );
    }

    #[test]
    fn latin_1_is_read() {
        let root = Element::parse(b"<a>J\xfcrgen</a>").unwrap();
        assert_eq!(root.text(), "Jürgen");
    }

    #[test]
    fn hostile_documents_are_refused() {
        for xml in [
            "",
            "x",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "</a>",
            "<a><b></a></b>",
            "<a>&</a>",
        ] {
            assert!(
                matches!(Element::parse(xml.as_bytes()), Err(XmlError::Malformed(_))),
                "{xml}"
            );
        }
        let deep = "<a>".repeat(DEPTH_MAX + 1);
        let wide = format!("<r>{}</r>", "<a/>".repeat(ELEMENTS_MAX));
        for xml in [deep, wide] {
            assert_eq!(Element::parse(xml.as_bytes()), Err(XmlError::TooMany));
        }
        let long = vec![b' '; XML_BYTES_MAX + 1];
        assert_eq!(Element::parse(&long), Err(XmlError::TooLong(long.len())));
    }
}
