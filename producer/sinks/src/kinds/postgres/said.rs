//! The errors of PostgreSQL, for people.

/// What PostgreSQL, or the way to it, says. Its details may repeat what was inserted, and are left out.
pub(super) fn told(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => format!("PostgreSQL says: {} ({})", said.message(), said.code().code()),
        None => {
            let mut innermost: &dyn std::error::Error = error;
            while let Some(source) = innermost.source() {
                innermost = source;
            }
            format!("PostgreSQL cannot be reached: {innermost}")
        }
    }
}
