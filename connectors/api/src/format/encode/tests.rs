//! What is encoded, and that it reads back.
