//! The product from outside, door by door: a real host, real agents, real plugins.

#[expect(dead_code, reason = "the runtime's own tests misbehave in more ways")]
#[path = "../../host/runtime/tests/plugins/guest.rs"]
mod guest;

#[path = "../../host/runtime/tests/plugins/rule_guest.rs"]
mod rule_guest;

#[expect(dead_code, reason = "the store's own tests store more")]
#[path = "../../host/storage/tests/behaviours/fixtures.rs"]
mod fixtures;

mod main_job;
mod clocks;
mod offline;
mod again;
mod groups;
mod audit;
mod audit_pruned;
mod secrets;
mod crash;
mod reload;
mod telemetry;
mod telemetry_kept;
mod services;
mod alerts;
mod windows;
mod judges;
mod webhooks;
mod messages;
mod rules;
mod plugin_life;
mod hostile_plugins;
mod signatures;
mod plugin_tools;
mod refusals;
mod forged_store;
mod forged_redis;
mod key_rotation;
mod agents_door;
mod access;
mod tenure;
mod tls;
mod agent_certificates;
mod paces;
mod slow_clients;
mod conformance;
mod command_line;
mod commits;
mod client_library;
mod operating;
mod statistics;
mod prometheus;
mod openapi;
mod verbs;
mod sockets;
mod cut_off;
mod paging;
mod following;
mod docs_plugins;
mod docs_cli;
mod docs_api;
mod store_away;
mod backup;
mod kill_loops;
mod cluster;
mod local_cluster;
mod redis;
mod partition;
mod taken_over;
mod cancel_races;
mod bad_lines;
mod sync_order;
mod docker;
mod docker_images;
mod docker_containers;
mod docker_endings;
mod docker_engine;
mod compose;
