"""What is wished for a dropped file, by the place where it lies; a wrong wish with its file, line and key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from stembridge.errors import ModelError, PresetError, RequestError
from stembridge.recipes import USES, find_recipe
from stembridge.settings import Settings, load_settings
from stembridge.types import Precision, RemixRequest, ResidualPolicy, SplitRequest
from stembridge.watch import wishes as wishes_module
from stembridge.watch.wish_file import WATCHING, WISHES, read_wish_file
from stembridge.watch.wishes import (
    OF_REMIXES,
    FolderSettings,
    Wish,
    WishReader,
    list_places,
    read_folder_settings,
    read_wish,
)

Drop = Callable[..., Wish]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    home = tmp_path / "home"
    home.mkdir()
    (home / "settings.toml").write_text('model = "mdx_extra"\nfile_names = "{stem} of {name}"\n')
    return load_settings(home=home, environ={})


@pytest.fixture
def drop(tmp_path: Path, settings: Settings) -> Drop:
    """Return the wish for a file, after the texts that are given by path were put into the folder."""

    def read(name: str = "song.wav", **texts: str) -> Wish:
        root = tmp_path / "drop"
        for path, text in texts.items():
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return read_wish(root, name, settings)

    return read


def test_a_file_without_a_word_is_split_as_the_machine_is_set_and_goes_to_stems(
    drop: Drop, tmp_path: Path
) -> None:
    wish = drop("takes/söng.wav")
    root = tmp_path / "drop"
    assert wish.split == SplitRequest(
        str(root / "takes" / "söng.wav"), str(root / "stems"), "mdx_extra", file_names="{stem} of {name}"
    )
    assert wish.remixes == () and wish.places == ()


def test_every_key_reaches_its_request(drop: Drop, tmp_path: Path) -> None:
    text = """
        model = "htdemucs_6s"
        overlap = 0.5
        shifts = 3
        seed = 7
        precision = "half"
        residual = "tf"
        format = "flac24"
        exact_float = true
        mp3 = true
        file_names = "{job8} {stem}"
        sessions = ["rpp", "dawproject"]
        presets = ["karaoke", "mine.toml"]
        changes = ["vocals.gain_db=-3", "vocals.mute=false"]
        stems_out = true
        report = true
        match = "lufs"
        ceiling_dbtp = -1
        tail = "extend"
        remix_format = "wav16"
        remix_mp3 = true
        speed = 0.8
        pitch = -2
    """
    mine = '[preset]\nname = "Mine"\nuse = "drums down"\n[stems.drums]\ngain_db = -3\n'
    wish = drop(**{"stembridge.toml": text, "mine.toml": mine})
    root = tmp_path / "drop"
    out = str(root / "stems")
    assert wish.split == SplitRequest(
        str(root / "song.wav"),
        out,
        "htdemucs_6s",
        overlap=0.5,
        shifts=3,
        seed=7,
        residual=ResidualPolicy.TF,
        format="flac24",
        exact_float=True,
        mp3=True,
        file_names="{job8} {stem}",
        sessions=("rpp", "dawproject"),
        precision=Precision.HALF,
    )
    changes = (
        "vocals.gain_db=-3",
        "vocals.mute=false",
        "master.match=lufs",
        "master.ceiling_dbtp=-1.0",
        "tail=extend",
    )
    karaoke = RemixRequest(
        "",
        out,
        "karaoke",
        changes=changes,
        stems_out=True,
        format="wav16",
        mp3=True,
        report=True,
        speed=0.8,
        pitch=-2.0,
        file_names="{job8} {stem}",
        sessions=("rpp", "dawproject"),
    )
    first, second = wish.remixes
    assert (first, second.preset) == (karaoke, str(root / "mine.toml"))
    assert wish.places == (root / "stembridge.toml",)


def test_the_settings_precision_counts_where_no_place_names_one(drop: Drop, settings: Settings) -> None:
    settings.config_file.write_text('precision = "half"\n')
    halved = load_settings(home=settings.home, environ={})
    root = settings.config_file.parent.parent / "drop"
    assert read_wish(root, "song.wav", halved).split.precision is Precision.HALF
    (root / "full").mkdir(parents=True)
    (root / "full" / "stembridge.toml").write_text('precision = "full"\n')
    assert read_wish(root, "full/song.wav", halved).split.precision is Precision.FULL


def test_later_places_win_key_by_key(drop: Drop, tmp_path: Path) -> None:
    root = tmp_path / "drop"
    texts = {
        "stembridge.toml": "seed = 1\nshifts = 1\nmp3 = true\noverlap = 0.1",
        "a/stembridge.toml": "seed = 2\nshifts = 2\noverlap = 0.2",
        "a/b/stembridge.toml": "seed = 3\nshifts = 3",
        "a/b/song.stembridge.toml": "seed = 4",
        "a/b/song.wav.stembridge.toml": "seed = 5",
        "c/stembridge.toml": "seed = 99",
    }
    wish = drop("a/b/song.wav", **texts)
    assert (wish.split.seed, wish.split.shifts, wish.split.overlap, wish.split.mp3) == (5, 3, 0.2, True)
    assert wish.places == tuple(root / path for path in texts if path[0] != "c")
    assert drop("a/b/song.flac").split.seed == 4
    assert drop("a/b/other.wav").split.seed == 3
    assert drop("a/song.wav").split.seed == 2
    assert drop("song.wav").split.seed == 1
    assert wish.places == tuple(path for path in list_places(root, "a/b/song.wav") if path.exists())


@pytest.mark.parametrize("use", USES)
def test_a_folder_called_like_a_use_is_that_use(use: str, tmp_path: Path) -> None:
    recipe = find_recipe(use)
    settings = load_settings(home=tmp_path / "plain", environ={})
    for name in (use.replace(":", "-"), use.replace(":", " ").title()):
        wish = read_wish(tmp_path / "drop", f"{name}/song.wav", settings)
        split = wish.split
        assert (split.model, split.overlap, split.shifts, split.two_stems) == (
            recipe.quality.model,
            recipe.quality.overlap,
            recipe.quality.shifts,
            recipe.two_stems,
        )
        assert [remix.preset for remix in wish.remixes] == ([recipe.preset] if recipe.preset else [])


def test_a_folder_called_like_a_preset_is_that_preset_and_so_is_one_of_your_own(
    drop: Drop, settings: Settings
) -> None:
    wish = drop("Vocal Air/takes/song.wav")
    assert [remix.preset for remix in wish.remixes] == ["vocal-air"]
    assert (wish.split.model, wish.split.two_stems) == ("mdx_extra", None)
    root = settings.config_file.parent / "karaoke"
    assert read_wish(root, "song.wav", settings).remixes == (), "the watched folder's own name says nothing"
    assert drop("mine/song.wav").remixes == ()
    own = settings.config_file.parent / "presets"
    own.mkdir()
    (own / "mine.toml").write_text('[preset]\nname = "M"\nuse = "u"\n[stems.bass]\nmute = true\n')
    assert [remix.preset for remix in drop("mine/song.wav").remixes] == ["mine"]


# --- what is set aside ----------------------------------------------------------------------------------


def summarise(wish: Wish) -> tuple[str, int, str | None, tuple[str, ...], list[str]]:
    split = wish.split
    return (split.model, split.shifts, split.two_stems, split.stems, [remix.preset for remix in wish.remixes])


@pytest.mark.parametrize(
    ("root", "folder", "sidecar", "expected"),
    [
        ('model = "mdx"', "karaoke", "", ("mdx", 0, "vocals", (), ["karaoke"])),
        ('model = "preview"\nshifts = 1', "acapella", "", ("preview", 1, "vocals", (), ["acapella"])),
        ('quality = "draft"', "acapella", "", ("htdemucs", 0, "vocals", (), ["acapella"])),
        ('quality = "best"', "karaoke", 'use = "remix"', ("htdemucs_ft", 2, None, (), [])),
        ('model = "mdx"', "practice-guitar", "", ("htdemucs_6s", 0, "guitar", (), ["practice-minus-guitar"])),
        (
            'quality = "best"',
            "practice-guitar",
            "",
            ("htdemucs_6s", 0, "guitar", (), ["practice-minus-guitar"]),
        ),
        (
            'model = "htdemucs_6s"\nquality = "best"',
            "practice-guitar",
            "",
            ("htdemucs_6s", 2, "guitar", (), ["practice-minus-guitar"]),
        ),
        ('model = "mdx"', "preview", "", ("preview", 0, None, (), [])),
        ('model = "mdx"', "preview", 'model = "mdx_extra"', ("mdx_extra", 0, None, (), [])),
        ('use = "acapella"', "karaoke", "", ("mdx_extra", 0, "vocals", (), ["karaoke"])),
        ("", "karaoke", 'model = "mdx"', ("mdx", 0, "vocals", (), ["karaoke"])),
        ("", "karaoke", 'quality = "best"', ("htdemucs_ft", 2, "vocals", (), ["karaoke"])),
        ("", "karaoke", 'quality = "best"\nshifts = 1', ("htdemucs_ft", 1, "vocals", (), ["karaoke"])),
        ('quality = "best"\nshifts = 5', "plain", 'quality = "good"', ("htdemucs", 0, None, (), [])),
        ('quality = "best"', "plain", 'model = "mdx"', ("mdx", 2, None, (), [])),
        ('model = "mdx"', "plain", 'quality = "best"', ("htdemucs_ft", 2, None, (), [])),
        ('model = "mdx"\nquality = "best"', "plain", "", ("mdx", 2, None, (), [])),
        ("", "karaoke", 'stems = ["vocals"]', ("mdx_extra", 0, None, ("vocals",), ["karaoke"])),
        ('stems = ["bass"]', "karaoke", "", ("mdx_extra", 0, "vocals", (), ["karaoke"])),
        ('stems = ["bass"]', "plain", 'two_stems = "drums"', ("mdx_extra", 0, "drums", (), [])),
        ('two_stems = "drums"', "plain", 'stems = ["bass"]', ("mdx_extra", 0, None, ("bass",), [])),
        ('two_stems = "drums"', "plain", "stems = []", ("mdx_extra", 0, None, (), [])),
        ("", "karaoke", 'preset = "drumless"', ("mdx_extra", 0, None, (), ["drumless"])),
        ("", "karaoke", "presets = []", ("mdx_extra", 0, None, (), [])),
        ("", "remix", 'preset = "drumless"', ("mdx_extra", 2, None, (), ["drumless"])),
        ('preset = "drumless"', "preview", "", ("preview", 0, None, (), ["drumless"])),
        ('preset = "drumless"', "karaoke", "", ("mdx_extra", 0, "vocals", (), ["karaoke"])),
        (
            'presets = ["drumless", "vocals-up"]',
            "plain",
            'preset = "bass-lift"',
            ("mdx_extra", 0, None, (), ["bass-lift"]),
        ),
        ('preset = "drumless"\nchanges = ["drums.mute=false"]', "vocal-air", "", None),
        ('mono = ["bass"]\nresidual = "hf_envelope"', "karaoke", "", None),
        ('mono = ["bass"]\nresidual = "hf_envelope"', "plain", 'two_stems = "drums"', None),
    ],
)
def test_a_later_use_quality_choice_of_stems_or_preset_replaces_what_an_earlier_one_meant(
    root: str, folder: str, sidecar: str, expected: object, drop: Drop
) -> None:
    wish = drop(f"{folder}/s.wav", **{"stembridge.toml": root, f"{folder}/s.stembridge.toml": sidecar})
    if expected is not None:
        assert summarise(wish) == expected
    assert wish.split.mono == () and wish.split.residual is ResidualPolicy.OWN
    assert all(remix.changes == () for remix in wish.remixes)


def test_a_residual_that_every_file_shall_have_stays_where_all_stems_are_wanted(drop: Drop) -> None:
    text = {"stembridge.toml": 'residual = "equal"'}
    for name in ("song.wav", "preview/song.wav", "drumless/song.wav"):
        assert drop(name, **text).split.residual is ResidualPolicy.EQUAL
    assert drop("x/s.wav", **text, **{"x/stembridge.toml": "stems = []"}).split.residual == "equal"
    assert drop("karaoke/song.wav").split.residual is ResidualPolicy.OWN
    both = {"y/stembridge.toml": 'mono = ["bass"]\nstems = ["bass"]'}
    assert drop("y/s.wav", **both).split.mono == ("bass",)


# --- what is refused ------------------------------------------------------------------------------------

HTDEMUCS = 'model = "htdemucs"\n'


@pytest.mark.parametrize(
    ("text", "line", "words", "kind"),
    [
        ('\nusee = "karaoke"', 2, "usee is no key here (did you mean use?)", RequestError),
        ("colour = 3", 1, "colour is no key here (there are use, model", RequestError),
        ("quiet_s = 3", 1, "quiet_s is no key here (below [watch] it is one)", RequestError),
        ("[watch]\nmp3 = true", 2, "mp3 is no key here (it stands above [watch]", RequestError),
        ('use = "karaoki"', 1, "use: 'karaoki' is none (did you mean karaoke?", RequestError),
        ("use = 3", 1, "use = 3 is not a text", RequestError),
        ('model = "htdemuks"', 1, "unknown model 'htdemuks' (did you mean htdemucs", ModelError),
        ('seed = 1\nquality = "super"', 2, "quality = 'super' is not one of draft, good, best", RequestError),
        ("overlap = 2", 1, "overlap 2 (between 0 and 0.95)", RequestError),
        ("overlap = nan", 1, "overlap nan", RequestError),
        ("overlap = true", 1, "overlap = true is not a number", RequestError),
        ("shifts = 1.5", 1, "shifts = 1.5 is not a whole number", RequestError),
        ("shifts = 21", 1, "shifts 21", RequestError),
        ("seed = -1", 1, "seed = -1 is not a whole number", RequestError),
        ("seed = true", 1, "seed = true is not a whole number", RequestError),
        ('stems = "vocals"', 1, "stems = 'vocals' is not a list of texts", RequestError),
        ("stems = [3]", 1, "stems = [3] is not a list of texts", RequestError),
        (HTDEMUCS + 'stems = ["guitar"]', 2, "model htdemucs has no stem 'guitar'", ModelError),
        (HTDEMUCS + 'two_stems = "guitar"', 2, "model htdemucs has no stem 'guitar'", ModelError),
        ('two_stems = ""', 1, "two_stems = '' is not a text", RequestError),
        ('stems = ["bass"]\n\ntwo_stems = "bass"', 3, "two_stems beside stems", RequestError),
        ('residual = "gone"', 1, "residual 'gone' (one of own, equal", RequestError),
        ('stems = ["bass"]\nresidual = "equal"', 2, "residual 'equal' with some of the stems", RequestError),
        ('residual = "equal"\nmono = ["bass"]', 2, "residual 'equal' with mono stems", RequestError),
        ('mono = ["kazoo"]\nseed = 1', 1, "mono 'kazoo' is no stem of this set", RequestError),
        ('format = "wav8"', 1, "format 'wav8' (one of auto, wav16", RequestError),
        ('remix_format = "mp3"', 1, "remix_format: format 'mp3'", RequestError),
        ('mp3 = "yes"', 1, "mp3 = 'yes' is not true or false", RequestError),
        ("exact_float = 1", 1, "exact_float = 1 is not true or false", RequestError),
        ('file_names = "{name}"', 1, "without {stem} all files would be called the same", RequestError),
        ('sessions = ["als"]', 1, "session 'als' (one of rpp, dawproject, aaf)", RequestError),
        ('precision = "bf16"', 1, "precision 'bf16' (one of full, half)", RequestError),
        ('preset = "drumles"', 1, "there is no preset 'drumles' (did you mean drumless", PresetError),
        ('preset = "sub/x.toml"', 1, "there is no preset file", PresetError),
        ('preset = "drumless"\npresets = ["karaoke"]', 2, "presets beside preset", RequestError),
        ('use = "karaoke"\npreset = "drumless"', 2, "a preset beside use 'karaoke'", RequestError),
        (
            'changes = ["vocals.gain_db=-3"]',
            1,
            "changes of no remix: no preset is named (needs preset",
            RequestError,
        ),
        (
            'preset = "drumless"\nchanges = ["drums.x=1"]',
            2,
            ": changes: drums.x=1: stems.drums.x is no key",
            PresetError,
        ),
        ('preset = "drumless"\nchanges = ["kazoo.gain_db=1"]', 2, "these stems have no kazoo", PresetError),
        ('preset = "drumless"\nchanges = "drums.mute=false"', 2, "is not a list such as", RequestError),
        (HTDEMUCS + 'preset = "practice-guitar-at-50"', 2, "htdemucs_6s has guitar", PresetError),
        (
            'presets = ["drumless"]\ntwo_stems = "vocals"',
            1,
            "is for drums, which these stems do not",
            PresetError,
        ),
        ('match = "peak"', 1, "match = 'peak' is not one of off, rms, lufs", RequestError),
        ("ceiling_dbtp = 1", 1, "ceiling_dbtp = 1 is not -30 to 0 dBTP", RequestError),
        ('tail = "long"', 1, "tail = 'long' is not one of trim, extend", RequestError),
        ("speed = 9", 1, "1: speed 9 (0.25 to 4", RequestError),
        ("pitch = 99", 1, "1: pitch 99 semitones", RequestError),
        ("seed = 1\nspeed = 0.9", 2, "2: speed of no remix: no preset is named (needs", RequestError),
        ('use = "remix"\ntail = "trim"', 2, "2: tail of no remix", RequestError),
        ("model = preview  # quick", 1, '(text needs quotes: model = "preview")', RequestError),
        ("[watch]\nnotify = False", 2, "(notify = false in small letters)", RequestError),
        ("model = [preview]", 1, "(mend or remove that line)", RequestError),
        ('format = "wav25"', 1, "1: format 'wav25' (one of", RequestError),
        ('residual = "most"', 1, "1: residual 'most' (one of", RequestError),
        ("[watch]\nquiet_s = -1", 2, "quiet_s = -1 is not 0.1 to 3600 seconds", RequestError),
        ('[watch]\nresults = "../x"', 2, "results = '../x' is not a folder's name", RequestError),
        ('[watch]\nresults = "Failed"', 2, "results = 'Failed' is not a folder's name", RequestError),
        ('[watch]\nresults = ".hidden"', 2, "results = '.hidden' is not a folder's name", RequestError),
        ('[watch]\nnetwork = "maybe"', 2, "network = 'maybe' is not \"auto\", true or false", RequestError),
        ("[watch]\nnotify = 1", 2, "notify = 1 is not true or false", RequestError),
        ("watch = 3", 1, "watch = 3 is no table", RequestError),
        ("seed = 1\nseed = 2", 2, "Cannot overwrite a value", RequestError),
        ("mp3 = yes\nseed = 1", 1, "Invalid value", RequestError),
        ("seed = 1\nmp3\n\n", 2, "Expected '=' after a key", RequestError),
    ],
)
def test_what_cannot_be_wished_is_told_with_its_file_line_and_key(
    text: str, line: int, words: str, kind: type[RequestError], drop: Drop, tmp_path: Path
) -> None:
    with pytest.raises(RequestError) as caught:
        drop(**{"stembridge.toml": text})
    said = str(caught.value)
    assert type(caught.value) is kind
    assert f"{str(tmp_path / 'drop' / 'stembridge.toml')!r}" in said and f"line {line}" in said
    assert words in said and "\n" not in said


def test_a_mistake_is_told_of_the_file_that_makes_it(drop: Drop, tmp_path: Path) -> None:
    root = tmp_path / "drop"
    texts = {"stembridge.toml": "seed = 1", "a/song.stembridge.toml": "seed = 2\n\noverlap = 7"}
    with pytest.raises(RequestError, match=r"song\.stembridge\.toml', line 3: overlap"):
        drop("a/song.wav", **texts)
    assert drop("a/other.wav").split.seed == 1
    with pytest.raises(PresetError, match="vocals, which these stems do not have") as caught:
        drop("vocal-air/s.wav", **{"vocal-air/stembridge.toml": 'stems = ["bass"]'})
    assert f"the folder {str(root / 'vocal-air')!r}: preset" in caught.value.message
    with pytest.raises(RequestError, match=r"b/stembridge\.toml', line 2: \[watch\] says how a whole"):
        drop("b/s.wav", **{"b/stembridge.toml": "seed = 1\n[watch]\nquiet_s = 1"})


def test_a_model_of_the_settings_that_is_none_is_told_as_theirs(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path, environ={}, model="htdemuks")
    with pytest.raises(ModelError, match=r"settings\.toml': model: unknown model 'htdemuks'"):
        read_wish(tmp_path, "song.wav", settings)


def test_a_model_that_the_machine_is_set_to_stays_in_the_folder_of_a_use(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path, environ={}, model="preview")
    assert summarise(read_wish(tmp_path, "karaoke/s.wav", settings))[:3] == ("preview", 0, "vocals")
    wish = read_wish(tmp_path, "practice-guitar/s.wav", settings)
    assert wish.split.model == "htdemucs_6s"
    assert wish.asks_for_model == f"the folder {str(tmp_path / 'practice-guitar')!r}"
    assert "settings.toml" in read_wish(tmp_path, "s.wav", settings).asks_for_model
    wrong = load_settings(home=tmp_path, environ={}, model="htdemuks")
    with pytest.raises(ModelError, match=r"settings\.toml': model: unknown model 'htdemuks'"):
        read_wish(tmp_path, "karaoke/s.wav", wrong)


def test_the_place_that_asks_for_a_model_is_told_of_each_file(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path / "home", environ={})
    root = tmp_path / "drop"
    (root / "a").mkdir(parents=True)
    (root / "a" / "stembridge.toml").write_text('seed = 1\nmodel = "mdx"\n')
    (root / "b.stembridge.toml").write_text('seed = 1\nquality = "best"\n')
    reader = WishReader(root, settings)
    assert reader.read("plain.wav").asks_for_model == ""
    assert reader.read("karaoke/s.wav").asks_for_model == f"the folder {str(root / 'karaoke')!r}"
    assert reader.read("karaoke/more/s.wav").asks_for_model == f"the folder {str(root / 'karaoke')!r}"
    assert reader.read("a/s.wav").asks_for_model == f"{str(root / 'a' / 'stembridge.toml')!r}, line 2"
    assert reader.read("b.wav").asks_for_model == f"{str(root / 'b.stembridge.toml')!r}, line 2"


def test_what_remixes_are_to_be_waits_further_out_for_a_preset(drop: Drop) -> None:
    text = {"stembridge.toml": 'match = "off"\nchanges = ["drums.gain_db=-1"]\nspeed = 0.9'}
    (remix,) = drop("vocal-air/s.wav", **text).remixes
    assert remix.speed == 0.9
    assert drop("plain/s.wav").remixes == () == drop("plain/more/s.wav").remixes
    with pytest.raises(RequestError, match=r"stembridge\.toml', line 1: match of no remix"):
        drop("s.wav")
    assert drop("s.wav", **{"s.stembridge.toml": "presets = []"}).remixes == ()
    with pytest.raises(RequestError, match=r"t\.stembridge\.toml', line 1: report of no remix"):
        drop("plain/t.wav", **{"plain/t.stembridge.toml": "report = true"})
    assert drop("plain/u.wav", **{"plain/u.stembridge.toml": "report = false"}).remixes == ()


def test_what_a_key_says_of_itself_is_read_once(drop: Drop) -> None:
    for text, words in (
        ('remix_format = "wav25"', "1: remix_format: format 'wav25' (one of"),
        ('file_names = "x"', "1: file_names 'x': without"),
        ('mono = ["kazoo"]', "1: mono 'kazoo' is no stem"),
        ('preset = "drumless"\nchanges = ["vocls.gain_db=1"]', "2: changes: vocls.gain_db=1: "),
    ):
        with pytest.raises(RequestError) as caught:
            drop(**{"stembridge.toml": text})
        assert words in str(caught.value)


def test_how_a_folder_is_watched_does_not_belong_beside_a_file(drop: Drop) -> None:
    with pytest.raises(
        RequestError, match=r"move it into the stembridge\.toml of the folder that is watched"
    ):
        drop(**{"song.stembridge.toml": "[watch]\nquiet_s = 1"})


def test_every_key_is_one_of_the_split_or_of_remixes() -> None:
    assert WISHES.keys() >= OF_REMIXES
    of_splits = {field.name for field in fields(SplitRequest)} | {"use", "quality"}
    assert WISHES.keys() - OF_REMIXES - of_splits == {"preset", "presets"}


def test_a_file_that_nobody_can_read_is_told_and_one_of_notepad_is_read(drop: Drop, tmp_path: Path) -> None:
    root = tmp_path / "drop"
    (root / "a").mkdir(parents=True)
    (root / "a" / "stembridge.toml").write_bytes(b"\xef\xbb\xbfseed = 3\r\nmp3 = true\r\n")
    assert drop("a/song.wav").split.seed == 3
    (root / "a" / "stembridge.toml").write_bytes("seed = 3 # Größe".encode("latin-1"))
    with pytest.raises(RequestError, match=r"stembridge\.toml' is no text.*UTF-8"):
        drop("a/song.wav")
    (root / "b" / "stembridge.toml").mkdir(parents=True)
    with pytest.raises(RequestError, match=r"b/stembridge\.toml' cannot be read: this is no regular file"):
        drop("b/song.wav")
    with pytest.raises(RequestError, match="more than 64 KiB"):
        drop("c/song.wav", **{"c/stembridge.toml": "#" * (1 << 20) + "\n"})


def test_where_no_such_file_can_be_nothing_is_said(drop: Drop, tmp_path: Path) -> None:
    (tmp_path / "drop").mkdir()
    assert drop("x" * 250 + ".wav").places == (), "a name that leaves no room for a sidecar"
    (tmp_path / "drop" / "file").touch()
    assert drop("file/song.wav").places == (), "a folder that has become a file meanwhile"


# --- the digest -----------------------------------------------------------------------------------------


def test_the_digest_tells_wishes_apart_and_not_places(drop: Drop, settings: Settings, tmp_path: Path) -> None:
    plain = drop("a/song.wav").digest
    assert len(plain) == 64 and drop("b/other.flac").digest == plain
    assert drop("c/song.wav", **{"c/stembridge.toml": 'model = "mdx_extra"\nseed = 0'}).digest == plain
    assert read_wish(tmp_path, "song.wav", settings).digest == plain

    lines = [
        'model = "mdx"',
        "overlap = 0.3",
        "shifts = 1",
        "seed = 1",
        'stems = ["bass"]',
        'two_stems = "bass"',
        'residual = "tf"',
        'format = "wav16"',
        "exact_float = true",
        'mono = ["bass"]',
        "mp3 = true",
        'file_names = "{stem}"',
        'sessions = ["rpp"]',
        'precision = "half"',
        'preset = "drumless"',
        'preset = "drumless"\nchanges = ["drums.mute=false"]',
        'preset = "drumless"\nstems_out = true',
        'preset = "drumless"\nmatch = "rms"',
        'preset = "drumless"\nceiling_dbtp = -1',
        'preset = "drumless"\ntail = "extend"',
        'preset = "drumless"\nremix_format = "wav16"',
        'preset = "drumless"\nremix_mp3 = true',
        'preset = "drumless"\nspeed = 0.9',
        'preset = "drumless"\npitch = 1',
        'preset = "drumless"\nreport = true',
        'presets = ["drumless", "karaoke"]',
        'presets = ["karaoke", "drumless"]',
    ]
    digests = [drop("x/s.wav", **{"x/stembridge.toml": line}).digest for line in lines]
    assert len({plain, *digests}) == len(lines) + 1


def test_a_preset_that_was_edited_is_another_wish(drop: Drop) -> None:
    text = '[preset]\nname = "M"\nuse = "u"\n[stems.bass]\ngain_db = {}\n'
    sidecar = {"song.stembridge.toml": 'preset = "m.toml"'}
    first = drop(**sidecar, **{"m.toml": text.format(-3)})
    assert drop(**{"m.toml": text.format(-4)}).digest != first.digest
    assert drop(**{"m.toml": f"# as it was\n{text.format(-3)}"}).digest == first.digest
    elsewhere = {"there/song.stembridge.toml": 'preset = "m.toml"', "there/m.toml": text.format(-3)}
    assert drop("there/song.wav", **elsewhere).digest == first.digest


def test_a_changed_file_is_read_again_even_in_the_same_moment_and_size(drop: Drop) -> None:
    for seed in (*range(9), *range(9)):
        assert drop(**{"stembridge.toml": f"seed = {seed}"}).split.seed == seed


# --- the folder's own -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", FolderSettings()),
        ("[watch]", FolderSettings()),
        ('[watch]\nnetwork = "auto"', FolderSettings()),
        ("[watch]\nnetwork = true\nnotify = false", FolderSettings(is_network=True, notify=False)),
        ("[watch]\nnetwork = false", FolderSettings(is_network=False)),
        ("[watch]\nquiet_s = 3\nscan_s = 60", FolderSettings(quiet_s=3.0, scan_s=60.0)),
        ('usee = "wrong"\n[watch]\nresults = "Ergebnis é"', FolderSettings(results="Ergebnis é")),
    ],
)
def test_how_a_folder_is_watched_stands_in_its_own_file(
    text: str, expected: FolderSettings, tmp_path: Path
) -> None:
    assert read_folder_settings(tmp_path) == FolderSettings("stems", None, None, True, None)
    (tmp_path / "stembridge.toml").write_text(text, "utf-8")
    assert read_folder_settings(tmp_path) == expected


def test_results_of_all_subfolders_go_where_the_root_says(drop: Drop, tmp_path: Path) -> None:
    wish = drop("karaoke/a/song.wav", **{"stembridge.toml": '[watch]\nresults = "fertig"'})
    out = str(tmp_path / "drop" / "fertig")
    assert [wish.split.out, *(remix.out for remix in wish.remixes)] == [out, out]


def test_a_relative_root_gives_whole_paths(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "drop").mkdir()
    (tmp_path / "drop" / "stembridge.toml").write_text('preset = "m.toml"\n[watch]\nresults = "r"')
    (tmp_path / "drop" / "m.toml").write_text('[preset]\nname = "M"\nuse = "u"\n[stems.bass]\nmute = true\n')
    monkeypatch.chdir(tmp_path)
    wish = read_wish(Path("drop"), "song.wav", settings)
    assert wish.split.source == str(tmp_path / "drop" / "song.wav")
    assert wish.split.out == str(tmp_path / "drop" / "r")
    assert wish.remixes[0].preset == str(tmp_path / "drop" / "m.toml")


def test_every_key_can_be_refused() -> None:
    assert not WISHES.keys() & WATCHING.keys()
    for keys in (WISHES, WATCHING):
        for key in keys.values():
            with pytest.raises((TypeError, ValueError)):
                key.read(object())


def test_the_page_names_every_key_and_its_example_can_be_wished(drop: Drop, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "watch.md").read_text("utf-8")
    example = page.partition("```toml")[2].partition("```")[0]
    assert not [key for key in WISHES if f"`{key}`" not in page]
    assert not [key for key in WATCHING if f"\n{key} = " not in example]
    wish = drop(**{"stembridge.toml": example})
    assert wish.split.sessions and wish.remixes
    assert read_folder_settings(tmp_path / "drop") != FolderSettings()


# --- many files -----------------------------------------------------------------------------------------


def test_a_reader_of_many_wishes_reads_what_they_share_once_and_the_next_one_sees_changes(
    drop: Drop, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "drop"
    texts = {
        "stembridge.toml": 'preset = "vocals-up"',
        "karaoke/stembridge.toml": "seed = 3",
        "karaoke/one.stembridge.toml": "seed = 4",
        "bad/stembridge.toml": "seed = 0\ncolour = 3",
        "bad/one.stembridge.toml": "use = 3",
    }
    drop(**texts)
    asked: list[Path] = []
    real = read_wish_file

    def read(path: Path, *, is_root: bool) -> object:
        asked.append(path)
        return real(path, is_root=is_root)

    names = [f"{folder}{name}.wav" for folder in ("", "karaoke/", "karaoke/a/") for name in ("one", "two")]
    expected = [read_wish(root, name, settings) for name in names]
    monkeypatch.setattr(wishes_module, "read_wish_file", read)
    reader = WishReader(root, settings)
    assert [reader.read(name) for name in names] == expected
    assert [wish.split.seed for wish in expected] == [0, 0, 4, 3, 3, 3]
    for name in ("bad/one.wav", "bad/two.wav", "bad/deep/one.wav") * 2:
        with pytest.raises(RequestError, match=r"bad/stembridge\.toml', line 2: colour is no key"):
            reader.read(name)
    shared = [path for path in asked if path.name == "stembridge.toml"]
    assert len(shared) == len(set(shared)) == 4
    (root / "stembridge.toml").write_text('preset = "drumless"')
    (read_again,) = WishReader(root, settings).read("one.wav").remixes
    assert (reader.read("one.wav").remixes[0].preset, read_again.preset) == ("vocals-up", "drumless")


def test_two_mistakes_that_look_alike_are_told_of_the_files_that_make_them(
    drop: Drop, tmp_path: Path, settings: Settings
) -> None:
    wrong = 'model = "htdemucs"\nstems = ["guitar"]'
    drop(**{f"{name}.stembridge.toml": wrong for name in ("one", "two")}, **{"three.stembridge.toml": ""})
    reader = WishReader(tmp_path / "drop", settings)
    for name in ("one", "two") * 2:
        with pytest.raises(ModelError, match=rf"{name}\.stembridge\.toml', line 2: stems"):
            reader.read(f"{name}.wav")


@pytest.mark.parametrize(
    "text",
    ["{} = 1", "[{}]", "[[{}]]", "x = {{ {} = 1 }}", 'x = """\n{} = 1\n"""'],
    ids=["key", "table", "tables", "inside", "text"],
)
def test_a_key_that_would_take_hours_is_refused_at_once(text: str, drop: Drop) -> None:
    for part in ("a", '"a b"', "a "):
        with pytest.raises(RequestError, match=r"line [12]: a key is nested too deep"):
            drop(**{"stembridge.toml": text.format(".".join([part] * 8_000))})
