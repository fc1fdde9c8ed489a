//! Tests of the whole: SQL text and rows in, views out. One binary, because linking it is dear.

mod flights;
mod jobs;
mod lateness;
mod md5;
mod rows;
