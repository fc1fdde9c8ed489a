//! What JSON rows and changes become.
