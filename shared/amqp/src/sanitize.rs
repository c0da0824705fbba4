//! What a sender may put into a frame, RabbitMQ passes on, and the client's codec cannot bear; sanitized in place.
//!
//! Two such things are known, and each ends the same way: the connection or the whole process dies, RabbitMQ
//! delivers the message again, and no worker ever gets past it. Text that is no UTF-8 in a short string (a
//! property, a header's name, a routing key) is a parse error of the connection: its wrong bytes become `?`. And
//! headers nested thousands of levels deep overflow the stack of the codec, which descends with them: below
//! [`DEEPEST`] a table becomes a byte array of the same bytes. Nothing changes its length.
//!
//! The message is known in its sanitized form only: published again (dead letter, retry), that is what goes out.
//!
//! It can go when the client's codec reads short strings as bytes, and limits how deep tables may be nested.

/// A frame starts with its type (1 byte), channel (2) and the size of its payload (4).
pub(super) const HEAD: usize = 7;
/// One byte ends it.
const END: usize = 1;
/// More than any peer agrees to. The client refuses a larger frame by itself, so it is not held back to be sanitized.
const LARGEST: usize = 1024 * 1024;
/// How many levels of headers are left as they are.
const DEEPEST: usize = 64;

const METHOD: u8 = 1;
const CONTENT_HEADER: u8 = 2;
const BASIC: usize = 60;

/// The properties of class Basic in the order of their flags, from the highest bit.
const PROPERTIES: [Field; 14] = [
    Field::Short,    // content_type
    Field::Short,    // content_encoding
    Field::Table,    // headers
    Field::Bytes(1), // delivery_mode
    Field::Bytes(1), // priority
    Field::Short,    // correlation_id
    Field::Short,    // reply_to
    Field::Short,    // expiration
    Field::Short,    // message_id
    Field::Bytes(8), // timestamp
    Field::Short,    // type
    Field::Short,    // user_id
    Field::Short,    // app_id
    Field::Short,    // cluster_id
];

#[derive(Clone, Copy)]
enum Field {
    Bytes(usize),
    Short,
    Table,
}

/// What the first bytes of a frame say.
pub(super) struct Head {
    /// The bytes of the whole frame.
    pub(super) length: usize,
    /// Whether it may hold what [`sanitize`] looks for.
    pub(super) looked_at: bool,
}

impl Head {
    /// `None` when there are not enough bytes yet.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let head: [u8; HEAD] = *bytes.first_chunk()?;
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
        let length = HEAD + size as usize + END;
        Some(Self {
            length,
            looked_at: matches!(head[0], METHOD | CONTENT_HEADER) && length <= LARGEST,
        })
    }
}

/// Sanitizes one whole frame. What is malformed in another way is left as it is, for the client to say so.
pub(super) fn sanitize(frame: &mut [u8]) {
    let Some((kind, rest)) = frame.split_first_mut() else {
        return;
    };
    let Some(payload) = rest.get_mut(HEAD - 1..) else {
        return;
    };
    let mut payload = Fields(payload);
    let _malformed = match *kind {
        METHOD => payload.method().is_none(),
        CONTENT_HEADER => payload.content_header().is_none(),
        _ => false,
    };
}

/// The fields that are still to be looked at. Each step is `None` at the end of the bytes.
struct Fields<'a>(&'a mut [u8]);

impl<'a> Fields<'a> {
    /// The methods that carry what another client wrote: the exchange and the routing key of its publish.
    fn method(&mut self) -> Option<()> {
        if self.number(2)? != BASIC {
            return Some(());
        }
        let layout = match self.number(2)? {
            50 => &[Field::Bytes(2), Field::Short, Field::Short, Field::Short][..], // Return
            60 => &[Field::Short, Field::Bytes(9), Field::Short, Field::Short],     // Deliver
            71 => &[Field::Bytes(9), Field::Short, Field::Short],                   // GetOk
            _ => &[],
        };
        layout.iter().try_for_each(|field| self.field(*field))
    }

    fn content_header(&mut self) -> Option<()> {
        if self.number(2)? != BASIC {
            return Some(());
        }
        let (_weight, _body_size) = (self.take(2)?, self.take(8)?);
        let flags = self.number(2)?;
        let present = (0..).zip(PROPERTIES).filter(|(n, _)| flags & (0x8000 >> n) != 0);
        present
            .map(|(_, field)| field)
            .try_for_each(|field| self.field(field))
    }

    fn field(&mut self, field: Field) -> Option<()> {
        match field {
            Field::Bytes(count) => self.take(count).map(drop),
            Field::Short => self.short(),
            Field::Table => self.table(0),
        }
    }

    fn short(&mut self) -> Option<()> {
        let length = self.number(1)?;
        sanitize_text(self.take(length)?);
        Some(())
    }

    fn table(&mut self, depth: usize) -> Option<()> {
        let length = self.number(4)?;
        let mut entries = Fields(self.take(length)?);
        while !entries.0.is_empty() {
            entries.short()?;
            entries.value(depth)?;
        }
        Some(())
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        let length = self.number(4)?;
        let mut values = Fields(self.take(length)?);
        while !values.0.is_empty() {
            values.value(depth)?;
        }
        Some(())
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        let kind = self.take(1)?.first_mut()?;
        let length = match *kind {
            b'F' if depth < DEEPEST => return self.table(depth + 1),
            b'A' if depth < DEEPEST => return self.array(depth + 1),
            b'F' | b'A' => {
                *kind = b'x';
                self.number(4)?
            }
            b'S' | b'x' => self.number(4)?,
            b'V' => 0,
            b't' | b'b' | b'B' => 1,
            b's' | b'u' | b'U' => 2,
            b'I' | b'i' | b'f' => 4,
            b'D' => 5,
            b'l' | b'L' | b'd' | b'T' => 8,
            _ => return None,
        };
        self.take(length).map(drop)
    }

    fn number(&mut self, bytes: usize) -> Option<usize> {
        let bytes = self.take(bytes)?;
        Some(
            bytes
                .iter()
                .fold(0, |number, byte| number << 8 | usize::from(*byte)),
        )
    }

    fn take(&mut self, count: usize) -> Option<&'a mut [u8]> {
        let (taken, rest) = std::mem::take(&mut self.0).split_at_mut_checked(count)?;
        self.0 = rest;
        Some(taken)
    }
}

fn sanitize_text(mut text: &mut [u8]) {
    while let Err(error) = std::str::from_utf8(text) {
        let (_, wrong) = text.split_at_mut(error.valid_up_to());
        let count = error.error_len().unwrap_or(wrong.len());
        wrong.iter_mut().take(count).for_each(|byte| *byte = b'?');
        text = wrong;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[kind, 0, 1], &size[..], payload, &[0xCE]].concat()
    }

    fn short(text: &[u8]) -> Vec<u8> {
        [&[u8::try_from(text.len()).unwrap()], text].concat()
    }

    fn long(bytes: &[u8]) -> Vec<u8> {
        [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
    }

    /// A content header with all properties there are; each short string is `text`.
    pub(crate) fn content_header(text: &[u8]) -> Vec<u8> {
        let inner = [&short(text)[..], b"V"].concat();
        let array = [&b"F"[..], &long(&inner), b"S", &long(b"\xff is bytes"), b"t\x01"].concat();
        let table = [
            &short(text)[..],
            b"A",
            &long(&array),
            &short(b"n"),
            b"l\0\0\0\0\0\0\0\xff",
        ];
        let table = long(&table.concat());
        let mut payload = vec![0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0xff, 0xfc];
        for field in PROPERTIES {
            match field {
                Field::Bytes(count) => payload.extend(vec![0xff; count]),
                Field::Short => payload.extend(short(text)),
                Field::Table => payload.extend(&table),
            }
        }
        frame(CONTENT_HEADER, &payload)
    }

    pub(crate) fn deliver(text: &[u8]) -> Vec<u8> {
        let payload = [
            &[0, 60, 0, 60][..],
            &short(b"tag"),
            &[0xff; 9],
            &short(text),
            &short(text),
        ];
        frame(METHOD, &payload.concat())
    }

    fn sanitized(mut frame: Vec<u8>) -> Vec<u8> {
        sanitize(&mut frame);
        frame
    }

    fn parses(frame: &[u8]) -> bool {
        lapin::protocol::basic::parse_properties(&frame[HEAD + 12..frame.len() - END]).is_ok()
    }

    #[test]
    fn short_strings_become_utf8_and_nothing_else_changes() {
        let bad = content_header(b"J\xf6rg \xe2\x82");
        assert!(
            !parses(&bad),
            "the codec takes it as it is: there is nothing to sanitize"
        );
        assert!(parses(&sanitized(bad.clone())));
        assert_eq!(sanitized(bad), content_header(b"J?rg ??"));
        assert_eq!(sanitized(deliver(b"\xff")), deliver(b"?"));
        let returned = |text: &[u8]| {
            let payload = [
                &[0, 60, 0, 50, 1, 0x38][..],
                &short(b"NO_ROUTE"),
                &short(text),
                &short(text),
            ];
            frame(METHOD, &payload.concat())
        };
        assert_eq!(sanitized(returned(b"\x80a")), returned(b"?a"));
        let got = |text: &[u8]| {
            let payload = [
                &[0, 60, 0, 71][..],
                &[0xff; 9],
                &short(text),
                &short(text),
                &[0; 4],
            ];
            frame(METHOD, &payload.concat())
        };
        assert_eq!(sanitized(got(b"a\xc0")), got(b"a?"));
        for good in [
            content_header("Jörg".as_bytes()),
            deliver("ä".as_bytes()),
            frame(METHOD, &[0, 10, 0, 60, 0xff]),
        ] {
            assert_eq!(sanitized(good.clone()), good);
        }
    }

    #[test]
    fn headers_nested_too_deep_become_bytes() {
        let nested = |depth: usize| {
            let array = (0..depth).fold(Vec::new(), |inner, _| [b"A", &long(&inner)[..]].concat());
            let table = long(&[&short(b"deep"), &array[..]].concat());
            let payload = [&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0x20, 0][..], &table];
            frame(CONTENT_HEADER, &payload.concat())
        };
        let deep = nested(DEEPEST);
        assert_eq!(sanitized(deep.clone()), deep);
        let deeper = nested(DEEPEST + 20_000);
        let cured = sanitized(deeper.clone());
        assert!(parses(&cured));
        let changed = deeper
            .iter()
            .zip(&cured)
            .filter(|(before, after)| before != after);
        assert_eq!(changed.collect::<Vec<_>>(), [(&b'A', &b'x')]);
    }

    #[test]
    fn what_is_malformed_does_no_harm() {
        for good in [content_header(b"\xff"), deliver(b"\xff")] {
            for length in 0..good.len() {
                let cut = good[..length].to_vec();
                assert_eq!(sanitized(cut).len(), length);
            }
            for place in 0..good.len() {
                for value in [0, 1, 0x7f, 0xff] {
                    let mut odd = good.clone();
                    odd[place] = value;
                    assert_eq!(sanitized(odd).len(), good.len());
                }
            }
        }
    }
}
