//! Dividing ranges among sources.
