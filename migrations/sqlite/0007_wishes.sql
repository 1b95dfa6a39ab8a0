-- Wishes to end an attempt that the owner of its agent's session has to hear of, whichever host was told.

-- When its rollout halted while it read `queued`: whoever owns its agent's session knows whether it was sent.
alter table invocations add column halted_at integer;

-- What is not over and asked to end; its size is that of the present, not of history.
create index invocations_wished on invocations (command_id, agent_id)
    where is_open and (cancel_requested_at is not null or halted_at is not null);
