//! One run of a crew: [`execute`] starts and watches it, [`stop`] tells it when to end, [`outcome`] says how it ended.
//! On the way it emits [`events`] and [`spans`].

pub(crate) mod events;
pub(crate) mod execute;
pub(crate) mod outcome;
pub(crate) mod spans;
pub(crate) mod stop;
