//! The door driven from outside: whole requests into the whole router, over the services and a real
//! SQLite store. Stood in for: plugins, agents' sockets, the signing key's keeper, time and chance.

mod accounts;
mod agents;
mod api_keys;
mod audit;
mod channels;
mod commands;
mod preview;
mod encoding;
mod conditions;
mod contract;
mod delivery;
mod description;
mod edge;
mod everything;
mod forged;
mod grants;
mod groups;
mod guesses;
mod live;
mod telemetry;
mod large;
mod samples;
mod machines;
mod matrix;
mod moved;
mod permissions;
mod standing;
mod refused;
mod sockets;
mod statistics;
mod world;
