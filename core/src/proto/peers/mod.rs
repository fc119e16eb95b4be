//! Known addresses, scores and bans.
