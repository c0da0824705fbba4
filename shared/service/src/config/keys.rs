//! Which keys a section has: serde knows the fields of a struct, and says them to whoever reads it.

use serde::de::value::{Error, StrDeserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use serde::forward_to_deserialize_any;

/// The keys of the section of `T` that has the key `path` (`section.name`); none where it has no fixed ones.
pub(super) fn beside<T: DeserializeOwned>(path: &str) -> &'static [&'static str] {
    let mut fields: &'static [&'static str] = &[];
    let segments: Vec<&str> = path.split('.').collect();
    let walk = Walk {
        segments: &segments,
        fields: &mut fields,
    };
    // It ends with an error: there is nothing to read.
    let _ = T::deserialize(walk);
    fields
}

/// Reads nothing but the way to one key, and notes the fields of the struct that should have it.
struct Walk<'a> {
    segments: &'a [&'a str],
    fields: &'a mut &'static [&'static str],
}

impl<'de> Deserializer<'de> for Walk<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.segments {
            [] | [_] => Err(Error::custom("the end of the way")),
            _ => visitor.visit_map(Step(Some(self))),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.segments.len() == 1 {
            *self.fields = fields;
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map enum identifier ignored_any
    }
}

/// A map with one key: the next segment of the way.
struct Step<'a>(Option<Walk<'a>>);

impl<'de> MapAccess<'de> for Step<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(segment) = self.0.as_ref().and_then(|walk| walk.segments.first()) else {
            return Ok(None);
        };
        seed.deserialize(StrDeserializer::new(segment)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        match self.0.take() {
            Some(walk) => seed.deserialize(Walk {
                segments: walk.segments.get(1..).unwrap_or_default(),
                fields: walk.fields,
            }),
            None => Err(Error::custom("no value without a key")),
        }
    }
}
