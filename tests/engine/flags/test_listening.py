from launcher.engine.flags.listening import Listening, listening
from launcher.engine.flags.taskset import taskset_prefix


def test_the_last_host_wins_and_every_key_file_counts() -> None:
    argv = ("server", "--host", "::1", "--api-key-file", "a", "--host", "0.0.0.0", "--api_key_file", "b")
    assert listening(argv) == Listening(host="0.0.0.0", key_files=("a", "b"))
    assert listening((*taskset_prefix((1, 2)), *argv)) == listening(argv)


def test_the_value_of_another_flag_is_no_flag() -> None:
    assert listening(("server", "-a", "--api-key-file", "-m", "--host")) == Listening(host=None, key_files=())
    assert listening(("server", "--host")) == Listening(host="", key_files=())
