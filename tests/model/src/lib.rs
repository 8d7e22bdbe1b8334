//! The protocol of `cattleguard`, model-checked. See the README.

pub mod action;
pub mod apply;
pub mod explore;
pub mod rules;
pub mod state;
pub mod tables;
pub mod words;
