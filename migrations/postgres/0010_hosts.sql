-- Several hosts on one database: what each has to find that another one wrote.

-- What waits, for the owner of its agent's session, whichever host accepted it.
create index invocations_queued on invocations (agent_id, turn, command_id)
    where state = 'queued' and cancel_requested_at is null;

-- Agents that came, went or were changed, for hosts that follow by cursor.
create index events_agents on events (seq) where kind = 'agent';

-- Sessions of a host that died.
create index agents_sessions on agents (node_id) where session_open;

comment on table nodes is
    'One start of one host. batch numbers its transactions and is set in each of them, so that a host whose connection '
    'broke in the middle of a commit finds out what became of it; seen_at is when it last wrote anything, which a living '
    'host does every second: one that has not for a while is taken for dead, and its sessions are closed by others.';
