//! One run of a crew: [`execute`] starts and watches it, [`stop`] tells it when to end, [`outcome`] says how it ended.
//! On the way it emits [`events`] and [`spans`]; what models say goes to [`followers`] in joined [`chunks`].

mod chunks;
pub(crate) mod events;
pub(crate) mod execute;
pub(crate) mod followers;
pub(crate) mod outcome;
pub(crate) mod spans;
pub(crate) mod stop;
