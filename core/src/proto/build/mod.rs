//! Requests to add packages, and how they end.
