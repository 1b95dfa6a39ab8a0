//! The door driven from outside: whole requests into the whole router, over the services and a real
//! SQLite store. Stood in for: plugins, agents' sockets, the signing key's keeper, time and chance.

mod accounts;
mod agents;
mod audit;
mod commands;
mod delivery;
mod description;
mod edge;
mod groups;
mod live;
mod machines;
mod permissions;
mod world;
