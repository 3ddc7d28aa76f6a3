//! Each kind of files becomes shards; bad ones are refused with the file, the place, and what to do.

mod arrays;
mod idx;
mod images;
mod support;
mod tables;
mod text;
