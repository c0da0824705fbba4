//! Any value that a body or a header may have.

use lapin::types::{AMQPValue, DecimalValue, FieldArray, FieldTable};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::string::string_regex;
use serde_json::Value;

/// One that JSON can hold.
pub(super) fn json_value() -> BoxedStrategy<Value> {
    let text = string_regex("\\PC{0,20}").expect("a regular expression");
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let key = string_regex("[a-z]{1,6}").expect("a regular expression");
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
    .boxed()
}

/// One that a header may have.
pub(super) fn amqp_value() -> BoxedStrategy<AMQPValue> {
    let text = prop::sample::select(vec![
        "",
        "2",
        "-1",
        "2000-01-01T00:00:00Z",
        "soon",
        "99999999999999999999",
        "ä",
    ]);
    let leaf = prop_oneof![
        any::<bool>().prop_map(AMQPValue::Boolean),
        any::<i8>().prop_map(AMQPValue::ShortShortInt),
        any::<u8>().prop_map(AMQPValue::ShortShortUInt),
        any::<i16>().prop_map(AMQPValue::ShortInt),
        any::<u16>().prop_map(AMQPValue::ShortUInt),
        any::<i32>().prop_map(AMQPValue::LongInt),
        any::<u32>().prop_map(AMQPValue::LongUInt),
        any::<i64>().prop_map(AMQPValue::LongLongInt),
        any::<f32>().prop_map(AMQPValue::Float),
        any::<f64>().prop_map(AMQPValue::Double),
        (any::<u8>(), any::<u32>())
            .prop_map(|(scale, value)| AMQPValue::DecimalValue(DecimalValue { scale, value })),
        any::<u64>().prop_map(AMQPValue::Timestamp),
        text.prop_map(|text| AMQPValue::LongString(text.into())),
        vec(any::<u8>(), 0..30).prop_map(|bytes| AMQPValue::LongString(bytes.into())),
        vec(any::<u8>(), 0..30).prop_map(|bytes| AMQPValue::ByteArray(bytes.into())),
        Just(AMQPValue::Void),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(|all| AMQPValue::FieldArray(FieldArray::from(all))),
            inner.prop_map(|value| {
                let mut table = FieldTable::default();
                table.insert("in".into(), value);
                AMQPValue::FieldTable(table)
            }),
        ]
    })
    .boxed()
}
