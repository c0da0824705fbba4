//! What follows a result: webhooks, and sinks that hand replies and events on to other systems.

mod verdict;
mod webhook;
