//! The parts of a worker that run beside its kickoffs: what happens when one panics ([`panics`]), and how all end
//! ([`drain`]).

pub(crate) mod drain;
pub(crate) mod panics;
pub(crate) mod part;
