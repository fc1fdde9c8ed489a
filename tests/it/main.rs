//! Tests of the whole: SQL text and rows in, views out; the service over real HTTP; the command as a process. One binary,
//! because linking it is dear.

#![allow(clippy::unwrap_used, reason = "a test that finds nothing to unwrap has failed, and says where")]

mod changed;
mod checkpoints;
mod command;
mod corpus;
mod damage;
mod flights;
mod jobs;
mod kafka;
mod lateness;
mod md5;
mod processing_time;
mod pushed;
mod replay;
mod row_errors;
mod rows;
mod savepoints;
mod serve;
mod service;
mod shop;
mod slt;
mod state;
mod tables;
mod tpch;
