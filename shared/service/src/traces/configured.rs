//! Whether traces are asked for.

use std::env;

/// Whether the environment asks for traces, by the variables of OpenTelemetry.
pub(super) fn configured() -> bool {
    let value = |name| env::var(name).unwrap_or_default().trim().to_ascii_lowercase();
    let endpoint = [
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    ];
    endpoint.into_iter().any(|name| !value(name).is_empty())
        && value("OTEL_SDK_DISABLED") != "true"
        && value("OTEL_TRACES_EXPORTER") != "none"
}
