"""The quickest faults of tests/chaos, once each: `make test-long` strikes all of them, again and again."""

from tests.chaos.test_faults_control import (
    test_a_control_plane_that_has_no_room_loses_nothing_and_goes_on_when_it_has,
    test_messages_that_come_twice_in_any_order_and_while_their_members_run_start_nothing_twice,
)
from tests.chaos.test_faults_members import (
    test_a_folder_that_is_removed_under_a_member_costs_that_member_alone,
    test_a_worker_that_is_told_to_end_lets_its_members_end_or_gives_them_back,
)

__all__ = [
    "test_a_control_plane_that_has_no_room_loses_nothing_and_goes_on_when_it_has",
    "test_a_folder_that_is_removed_under_a_member_costs_that_member_alone",
    "test_a_worker_that_is_told_to_end_lets_its_members_end_or_gives_them_back",
    "test_messages_that_come_twice_in_any_order_and_while_their_members_run_start_nothing_twice",
]
