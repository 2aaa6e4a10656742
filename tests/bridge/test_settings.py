"""Defaults < file < environment < flags, and a sentence for what is no setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from stembridge.errors import RequestError
from stembridge.settings import load_settings
from stembridge.types import Precision


def test_each_layer_wins_over_the_one_below(tmp_path: Path) -> None:
    assert load_settings(home=tmp_path, environ={}).keep_alive_s == 300.0
    (tmp_path / "settings.toml").write_text('keep_alive_s = 10\nmodel = "htdemucs_ft"\nmax_queue = 5\n')
    from_file = load_settings(home=tmp_path, environ={})
    assert (from_file.keep_alive_s, from_file.model, from_file.max_queue) == (10.0, "htdemucs_ft", 5)
    environ = {"STEMBRIDGE_MODEL": "preview", "STEMBRIDGE_OTHER": "x", "PATH": "/bin"}
    from_environment = load_settings(home=tmp_path, environ=environ)
    assert (from_environment.keep_alive_s, from_environment.model) == (10.0, "preview")
    flags = load_settings(home=tmp_path, environ=environ, keep_alive_s=30.0, model=None)
    assert (flags.keep_alive_s, flags.model, flags.max_queue) == (30.0, "preview", 5)


def test_a_worker_is_a_good_neighbour_unless_it_is_told_otherwise(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path, environ={})
    assert (settings.worker_priority, settings.threads, settings.compile) == ("low", 0, False)
    (tmp_path / "settings.toml").write_text('worker_priority = "normal"\nthreads = -1\ncompile = true\n')
    settings = load_settings(home=tmp_path, environ={})
    assert (settings.worker_priority, settings.threads, settings.compile) == ("normal", -1, True)


def test_a_setting_of_the_daemon_in_the_environment_is_refused_not_half_obeyed(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="STEMBRIDGE_MODEL_DIRS is set"):
        load_settings(home=tmp_path, environ={"STEMBRIDGE_MODEL_DIRS": "/x"})


def test_a_home_holds_every_folder(tmp_path: Path) -> None:
    settings = load_settings(environ={"STEMBRIDGE_HOME": str(tmp_path)})
    for path in (settings.job_table, settings.connection_file, settings.log_file, *settings.model_dirs):
        assert path.is_relative_to(tmp_path)


@pytest.mark.parametrize("key", ["model_dirs", "plugin_dirs", "watch_dirs"])
def test_folders_are_a_list(key: str, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(f'{key} = ["/a", "~/b"]\n')
    assert getattr(load_settings(home=tmp_path, environ={}), key) == (Path("/a"), Path.home() / "b")


def test_no_folder_of_plugins_or_to_watch_is_set_at_first(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path, environ={})
    assert settings.plugin_dirs == settings.watch_dirs == ()


def test_what_stems_are_called_can_be_set(tmp_path: Path) -> None:
    assert load_settings(home=tmp_path, environ={}).file_names == "{name} - {stem}"
    (tmp_path / "settings.toml").write_text('file_names = "{stem} ({job8})"\n')
    assert load_settings(home=tmp_path, environ={}).file_names == "{stem} ({job8})"


def test_how_models_compute_can_be_set(tmp_path: Path) -> None:
    assert load_settings(home=tmp_path, environ={}).precision is Precision.FULL
    (tmp_path / "settings.toml").write_text('precision = "half"\n')
    assert load_settings(home=tmp_path, environ={}).precision is Precision.HALF
    assert load_settings(home=tmp_path, environ={}, precision="full").precision is Precision.FULL
    with pytest.raises(RequestError, match=r"precision 'double' \(one of full, half\)"):
        load_settings(home=tmp_path, environ={}, precision="double")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("keep_alive = 3\n", "keep_alive is no setting"),
        ('keep_alive_s = "soon"\n', "'soon' is not of type float"),
        ("model = 3\n", "3 is not of type str"),
        ('device = "abacus"\n', "device = 'abacus'"),
        ("max_queue = 0\n", "max_queue = 0"),
        ("threads = -2\n", "threads = -2"),
        ('worker_priority = "idle"\n', "worker_priority = 'idle'"),
        ("threads = true\n", "threads = True is not of type int (a whole number)"),
        ("threads = 2.5\n", "threads = 2.5 is not of type int"),
        ("threads = inf\n", "threads = inf is not of type int"),
        ("worker_priority = 10\n", "worker_priority = 10 is not of type str (text, in quotes)"),
        ("compile = 1\n", "compile = 1 is not of type bool (true or false, without quotes)"),
        ('compile = "yes"\n', "compile = 'yes' is not of type bool"),
        ("model_dirs = []\n", "model_dirs is empty"),
        ('model_dirs = "/models"\n', "model_dirs = '/models' is not a list of folders"),
        ('plugin_dirs = "/vst3"\n', "plugin_dirs = '/vst3' is not a list of folders"),
        ("plugin_dirs = [3]\n", "plugin_dirs = [3] is not a list of folders"),
        ('watch_dirs = "/drop"\n', "watch_dirs = '/drop' is not a list of folders"),
        ("watch_dirs = {a = 1}\n", "watch_dirs = {'a': 1} is not a list of folders"),
        ('watch_dirs = ["/a", "drop"]\n', "watch_dirs names 'drop', which is not a whole path"),
        ('watch_dirs = [""]\n', "watch_dirs names '.', which is not a whole path"),
        ('file_names = "{name}"\n', "settings.toml: file_names '{name}': without {stem}"),
        ("file_names = 3\n", "3 is not of type str"),
        ('precision = "int8"\n', "settings.toml: precision 'int8'"),
        ("precision = 16\n", "16 is not of type str"),
        ("model = \n", "settings.toml"),
    ],
)
def test_what_is_no_setting_is_refused_with_its_place(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(text)
    with pytest.raises(RequestError) as caught:
        load_settings(home=tmp_path, environ={})
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_slip_in_the_name_of_a_setting_is_told_first(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('watch_dir = ["/drop"]\n')
    with pytest.raises(RequestError) as caught:
        load_settings(home=tmp_path, environ={})
    assert caught.value.hint.startswith("did you mean watch_dirs? the settings are ")
    (tmp_path / "settings.toml").write_text("bogus = 1\n")
    with pytest.raises(RequestError) as caught:
        load_settings(home=tmp_path, environ={})
    assert caught.value.hint.startswith("the settings are compile, ")


def test_a_file_that_notepad_saved_is_read(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_bytes(b'\xef\xbb\xbfmodel = "preview"\r\n')
    assert load_settings(home=tmp_path, environ={}).model == "preview"


def test_a_home_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no valid name"):
        load_settings(home=tmp_path / "\udcff", environ={})


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 2000], ids=["long", "deep"])
def test_what_no_reader_of_toml_survives_is_told_in_one_line(tmp_path: Path, value: str) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(f"threads = {value}\n")
    with pytest.raises(RequestError, match=r"settings\.toml: .* too (long|deep)"):
        load_settings(environ={"STEMBRIDGE_HOME": str(tmp_path)})


def test_a_tilde_that_names_nobody_here_is_a_folder_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('plugin_dirs = ["~/vst", "~nobody-of-that-name/vst"]\n')
    assert load_settings(home=tmp_path, environ={}).plugin_dirs == (
        Path.home() / "vst",
        Path("~nobody-of-that-name/vst").absolute(),
    )
