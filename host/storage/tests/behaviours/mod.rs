//! What every store does, whichever database it stands on. Each behaviour takes a fresh store, or a place
//! to open one at; the list at the end gives each database one test a behaviour.

pub mod accepting;
pub mod advancing;
pub mod agents;
pub mod alerts;
pub mod api_keys;
pub mod audit;
pub mod channels;
pub mod fixtures;
pub mod groups;
pub mod journal;
pub mod lists;
pub mod output;
pub mod owning;
pub mod place;
pub mod plugins;
pub mod queues;
pub mod retrying;
pub mod rolling;
pub mod restoring;
pub mod sharing;
pub mod surviving;
pub mod telemetry;
pub mod users;

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use domain::event::Event;
use plan::id::CommandId;
use ports::agents::Agents;
use ports::alerts::{Alerts, Silences};
use ports::api_keys::ApiKeys;
use ports::channels::Channels;
use ports::commands::Commands;
use ports::delivery::Delivery;
use ports::groups::Groups;
use ports::journal::{Installation, Journal, Trail};
use ports::live::{Heard, Live, Subscription};
use ports::plugin_life::PluginBook;
use ports::replies::Replies;
use ports::telemetry::Telemetry;
use ports::users::Users;
use storage::postgres::{Counters, PostgresStore};
use storage::sqlite::SqliteStore;

/// Everything a store answers.
pub trait Store:
    Commands
    + Delivery
    + Replies
    + Agents
    + Groups
    + Users
    + ApiKeys
    + Journal
    + Trail
    + Installation
    + PluginBook
    + Telemetry
    + Alerts
    + Silences
    + Channels
    + Clone
    + Send
    + Sync
    + 'static
{
    /// What its writer has done so far.
    fn counters(&self) -> Counters;
}

impl Store for SqliteStore {
    fn counters(&self) -> Counters {
        SqliteStore::counters(self)
    }
}

impl Store for PostgresStore {
    fn counters(&self) -> Counters {
        PostgresStore::counters(self)
    }
}

/// A fresh store and what it told its listeners.
pub struct Ground<S> {
    /// The store; its writer runs.
    pub store: S,
    /// What was published.
    pub told: Arc<Told>,
}

/// A listener that remembers everything.
#[derive(Default)]
pub struct Told(Mutex<Vec<Arc<Event>>>);

impl Told {
    /// All events so far, in the order they were told.
    pub fn all(&self) -> Vec<Arc<Event>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Live for Told {
    fn publish(&self, events: &[Arc<Event>]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(events);
    }

    fn subscribe(&self, _: Option<CommandId>) -> Box<dyn Subscription> {
        Box::new(Silence)
    }
}

struct Silence;

#[async_trait]
impl Subscription for Silence {
    async fn next(&mut self) -> Heard {
        Heard::Closed
    }
}

/// One test for each behaviour, at `$place`: with a fresh store on one thread, with one on two, or with
/// nothing but the place.
#[macro_export]
macro_rules! behaviours {
    ($place:ty) => {
        $crate::behaviours! { @each $place;
            accepting::a_command_reads_back_as_accepted,
            accepting::accepting_tells_the_status_and_records_who_asked,
            accepting::a_taken_command_id_is_a_conflict_and_its_neighbours_are_stored,
            accepting::a_command_is_stored_once,
            accepting::an_agent_nobody_enrolled_is_a_conflict,
            accepting::a_command_for_many_agents_is_whole,
            lists::pages_run_from_the_newest_down_and_leave_nothing_out,
            lists::every_filter_keeps_what_it_says_and_nothing_else,
            lists::filters_combine,
            lists::sites_bound_what_is_seen,
            lists::invocations_are_paged_by_agent_and_filtered_by_state,
            advancing::a_result_that_comes_first_swallows_what_it_overtook,
            advancing::a_whole_life_noted_step_by_step_is_kept,
            advancing::a_terminal_state_is_never_left_but_lost_is_amended,
            advancing::advances_that_race_are_each_told_the_truth,
            advancing::an_attempt_nobody_made_answers_none,
            advancing::the_status_of_many_adds_up_as_they_end,
            advancing::counts_agree_with_the_invocations_after_a_storm,
            advancing::a_note_is_stored_though_nobody_waits,
            output::output_reads_back_from_any_offset,
            output::the_same_bytes_twice_are_kept_once,
            output::overlapping_chunks_are_cut_to_what_is_new,
            output::what_is_stored_is_known_without_its_bytes,
            output::output_of_an_attempt_nobody_made_is_left_out,
            output::an_advance_commits_after_the_output_before_it,
            output::a_page_of_output_stops_at_its_limit,
            output::old_output_goes_in_small_steps_between_which_others_write,
            queues::what_is_due_comes_by_priority_then_by_acceptance,
            queues::asking_to_cancel_takes_it_out_of_the_queue_and_changes_no_state,
            queues::cancelling_at_some_sites_leaves_the_others,
            queues::open_is_everything_that_is_not_over,
            queues::overdue_is_what_has_not_started_in_time,
            queues::what_is_overdue_is_paged_though_none_of_it_moves,
            queues::abandoned_is_what_an_absent_agent_had,
            retrying::an_attempt_that_is_tried_again_goes_into_history_and_the_command_stays_open,
            retrying::what_is_due_again_comes_when_it_is_due_and_keeps_its_envelope,
            retrying::the_last_attempt_settles_the_invocation,
            retrying::a_late_report_amends_its_own_attempt_only,
            retrying::what_could_not_start_any_more_is_not_tried_again,
            retrying::what_was_asked_to_end_is_not_tried_again,
            owning::an_older_session_has_no_word_on_what_was_sent,
            owning::what_a_session_may_have_sent_is_nobodys_to_call_unsent,
            owning::what_an_agent_had_is_not_lost_when_it_has_come_again_since_that_was_read,
            owning::what_is_held_was_not_sent_whoever_has_a_session,
            owning::a_wish_is_found_until_it_is_fulfilled_by_whoever_can,
            owning::a_halt_is_found_by_whoever_may_have_sent_the_rest,
            rolling::what_a_rollout_holds_is_not_due_until_it_is_let_go,
            rolling::a_rollout_that_halts_skips_the_rest_and_says_why,
            rolling::a_halt_is_the_end_of_retries,
            rolling::a_rollup_counts_by_site_state_and_reason,
            rolling::results_are_grouped_whole_or_by_one_value,
            rolling::a_result_with_nul_takes_nobodys_results_away,
            rolling::the_backlog_is_what_is_not_over,
            rolling::what_is_open_is_counted_by_site_and_for_sites,
            rolling::a_kept_reply_is_found_until_it_expires_and_is_stored_with_its_command,
            agents::a_join_token_lets_one_of_fifty_in,
            agents::a_token_that_is_wrong_revoked_or_expired_is_refused,
            agents::a_token_that_lets_nobody_in_any_more_is_forgotten_when_its_time_is_over,
            agents::a_name_is_taken_for_ever,
            agents::a_key_that_is_over_never_comes_back_and_a_deleted_agents_name_does,
            agents::who_waits_for_approval_opens_no_session,
            agents::a_session_stores_facts_and_counts_epochs,
            agents::an_older_session_cannot_end_a_newer_one,
            agents::a_change_is_stored_and_told,
            agents::a_revoked_agent_opens_no_session,
            groups::a_group_reads_back_changes_and_goes,
            groups::a_refused_change_writes_nothing_and_says_why,
            groups::of_two_changes_that_would_close_a_circle_one_is_refused,
            users::a_user_reads_back_with_its_grants,
            users::a_name_belongs_to_one_user,
            users::the_last_admin_stays,
            users::a_refresh_token_rotates_once_and_reuse_ends_the_family,
            users::an_admin_is_demoted_as_long_as_another_stays,
            users::a_change_of_a_user_is_stored_whole,
            users::who_is_another_by_now_is_not_changed_unseen,
            users::a_reply_is_kept_with_the_user_it_tells_of_or_not_at_all,
            users::a_lost_answer_may_be_asked_for_again_for_half_a_minute,
            users::of_many_rotations_at_once_none_ends_the_login,
            users::a_new_password_ends_what_was_before,
            users::logging_out_ends_the_family,
            users::one_login_too_many_ends_the_one_that_was_idle_for_longest,
            api_keys::a_key_reads_back_is_used_and_revoked,
            api_keys::a_key_goes_with_its_owner,
            api_keys::of_many_keys_made_at_once_only_so_many_are_stored,
            plugins::a_plugin_reads_back_as_it_was_kept,
            plugins::the_history_of_a_plugin_is_its_own_and_newest_first,
            plugins::what_waits_for_a_plugin_is_what_is_not_over,
            telemetry::a_report_reads_back_and_is_kept_once,
            telemetry::whoever_comes_first_on_a_new_day_is_taken_with_all_who_come_beside_it,
            telemetry::to_roll_up_again_changes_nothing,
            telemetry::many_agents_are_rolled_up_each_by_itself,
            telemetry::what_is_old_is_forgotten_and_the_rest_stays,
            alerts::an_alert_reads_back_with_its_timeline_and_is_told_of,
            alerts::of_two_that_judge_at_once_the_second_is_left_out_and_told_so,
            alerts::alerts_are_listed_newest_first_by_what_is_asked_for,
            alerts::alerts_that_are_not_over_are_counted_by_rule_and_how_they_stand,
            alerts::what_a_rule_remembers_is_kept_until_it_lets_go,
            alerts::a_silence_lasts_until_it_ends_or_is_ended,
            channels::of_two_that_change_a_channel_at_once_one_does,
            channels::a_channel_hears_of_what_comes_after_it_once,
            channels::a_message_is_carried_by_one_and_given_up_in_the_end,
            journal::the_cursor_is_complete_and_ascending_across_a_thousand_writes,
            journal::events_of_a_command_come_with_its_output,
            journal::what_is_told_is_what_is_stored,
            journal::an_action_that_fails_leaves_no_audit,
            journal::audit_entries_read_back_newest_first,
            journal::the_installation_keeps_its_name,
            journal::a_store_that_works_says_so,
            audit::entries_are_found_by_who_what_and_when,
            sharing::a_thousand_accepts_at_once_take_few_commits,
        }
        $crate::behaviours! { @wide $place;
            sharing::callers_in_a_loop_keep_sharing_commits,
            audit::many_writers_make_one_chain,
        }
        $crate::behaviours! { @places $place;
            surviving::everything_is_there_again_after_reopening,
            surviving::no_accept_that_returned_is_lost_to_kill_nine,
            surviving::an_opening_that_is_killed_at_any_point_is_finished_by_the_next,
            surviving::a_newer_schema_is_refused_with_the_cure,
            surviving::a_row_that_cannot_be_read_is_named,
            surviving::a_writer_that_is_cut_off_leaves_nobody_waiting,
            surviving::a_note_without_room_is_told_of_as_a_commit_that_failed,
            restoring::what_was_not_over_is_held_and_what_was_over_stays,
            restoring::the_epoch_rises_and_is_recorded,
            restoring::nothing_that_may_be_used_up_is_good_again,
            audit::every_entry_hangs_on_the_chain_of_its_host_under_its_seal,
            audit::the_log_only_grows,
            audit::pruning_leaves_a_checkpoint_that_holds,
            audit::a_change_of_what_pruning_left_is_found,
            audit::no_checkpoint_is_sealed_over_what_was_put_there,
            audit::a_restore_begins_a_chain_that_says_so,
            audit::every_change_behind_the_stores_back_is_found,
        }
    };
    (@each $place:ty; $($area:ident :: $name:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $name() {
                $crate::behaviours! { @fresh $place; $area::$name }
            }
        )*
    };
    (@wide $place:ty; $($area:ident :: $name:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $crate::behaviours! { @fresh $place; $area::$name }
            }
        )*
    };
    (@fresh $place:ty; $area:ident :: $name:ident) => {
        let Some(place) = <$place as $crate::behaviours::place::Place>::fresh() else { return };
        let (ground, running) = $crate::behaviours::place::open(&place).await;
        $crate::behaviours::$area::$name(ground).await;
        drop(running);
    };
    (@places $place:ty; $($area:ident :: $name:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $crate::behaviours::$area::$name::<$place>().await;
            }
        )*
    };
}
