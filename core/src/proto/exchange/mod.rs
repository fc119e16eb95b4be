//! Moving the groups of artifacts between peers, verified.
