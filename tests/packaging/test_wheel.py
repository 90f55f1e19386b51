"""What the wheel and the sdist hold, and what an install, an editable one and an uninstall do."""

import base64
import csv
import hashlib
import json
import tarfile
import zipfile
from configparser import ConfigParser
from email.parser import Parser
from pathlib import Path
from typing import Any, Callable, Dict, Set

import pytest

from regap_plugin import __version__
from regap_plugin.activation import PTH_LINE, PTH_NAME

DIST_INFO = f"regap_plugin-{__version__}.dist-info"
IS_ARMED = "from regap_plugin.activation import is_armed; print(is_armed())"
MODULES = "import sys; print(*sorted(sys.modules))"


def _config(source: Path) -> ConfigParser:
    parser = ConfigParser()
    parser.read(source / "setup.cfg", encoding="utf-8")
    return parser


def _package_dir(source: Path) -> Dict[str, str]:
    lines = _config(source)["options"]["package_dir"].split("\n")
    return dict(line.replace(" ", "").split("=") for line in lines if line)


def _files_of(folder: Path) -> Set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def _members(wheel: Path) -> Dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name[-1] != "/"}


# ---- the list of packages


def test_the_package_list_is_what_the_folders_hold() -> None:
    source = Path(__file__).parents[2]
    if not (source / "setup.cfg").is_file():
        pytest.skip("reads setup.cfg: run the tests from a checkout")
    listed = _config(source)["options"]["packages"].split()
    found = set()
    for name, folder in _package_dir(source).items():
        for path in (source / folder).rglob("*.py"):
            relative = path.parent.relative_to(source / folder).parts
            found.add(".".join((name, *relative)))
            assert (path.parent / "__init__.py").is_file(), f"{path.parent} has no __init__.py"
    assert len(listed) == len(set(listed))
    assert set(listed) == found


# ---- the wheel


def test_the_wheel_holds_every_file_of_the_packages(built: Any) -> None:
    expected = {
        f"{name}/{path}": (built.source / folder / path).read_bytes()
        for name, folder in _package_dir(built.source).items()
        for path in _files_of(built.source / folder)
    }
    found = _members(built.wheel)
    packaged = {
        name: content for name, content in found.items() if not name.startswith(f"{DIST_INFO}/")
    }
    assert packaged.pop(PTH_NAME) == PTH_LINE.encode()
    missing, extra = sorted(set(expected) - set(packaged)), sorted(set(packaged) - set(expected))
    assert missing == [], "list it in setup.cfg's packages or package_data, or keep it elsewhere"
    assert extra == []
    assert packaged == expected
    assert {name.split("/")[0] for name in packaged} == set(_package_dir(built.source))


def test_the_record_lists_every_file_with_its_hash(built: Any) -> None:
    members = _members(built.wheel)
    record = members.pop(f"{DIST_INFO}/RECORD").decode()
    rows = {name: (digest, size) for name, digest, size in csv.reader(record.splitlines())}
    assert rows.pop(f"{DIST_INFO}/RECORD") == ("", "")
    assert PTH_NAME in rows, "so that an uninstall takes it away"
    assert sorted(rows) == sorted(members)
    for name, content in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        assert rows[name] == (f"sha256={digest}", str(len(content)))


def test_the_wheel_asks_for_pluggy_alone(built: Any) -> None:
    metadata = Parser().parsestr(_members(built.wheel)[f"{DIST_INFO}/METADATA"].decode())
    assert metadata["Name"] == "regap-plugin"
    assert metadata["Version"] == __version__
    assert metadata["Requires-Python"] == ">=3.9"
    needed = [each for each in metadata.get_all("Requires-Dist", []) if "extra ==" not in each]
    assert needed == ["pluggy>=1.2"], "anything more could move an upstream's pins"


def test_the_wheel_declares_its_commands_and_upstreams(built: Any) -> None:
    parser = ConfigParser()
    parser.read_string(_members(built.wheel)[f"{DIST_INFO}/entry_points.txt"].decode())
    commands = dict(parser["console_scripts"])
    assert commands["regap"] == "regap_plugin.cli:main"
    modules = {name for name in _members(built.wheel) if name.endswith(".py")}
    for section in parser.sections():
        for value in parser[section].values():
            path = value.split(":")[0].strip().replace(".", "/")
            assert f"{path}.py" in modules, f"{value}: expected a module of the wheel"
    assert parser["regap.upstreams"]


def test_an_editable_wheel_has_no_activation(built: Any) -> None:
    names = set(_members(built.editable))
    assert PTH_NAME not in names
    assert not any(name.startswith("regap_plugin/") for name in names), "it is an editable one"


# ---- the sdist


def test_the_sdist_holds_what_building_and_testing_need(built: Any) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    expected = {"setup.cfg", "pyproject.toml", "build_activation.py", "README.md", "LICENSE"}
    for folder in (*_package_dir(built.source).values(), "tests", "docs"):
        expected |= {
            f"{folder}/{path}"
            for path in _files_of(built.source / folder)
            if path.endswith((".py", ".md", ".typed", ".json", ".html", ".css", ".js"))
        }
    assert sorted(expected - names) == [], "add it to MANIFEST.in"


def test_the_wheel_of_the_sdist_is_the_wheel_of_the_tree(
    built: Any, build: Callable[[str, Path, Path], Path], tmp_path: Path
) -> None:
    with tarfile.open(built.sdist) as archive:
        # Older Pythons have no filters, those in between warn when none is named.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(tmp_path)
    (source,) = tmp_path.iterdir()
    wheel = build("wheel", source, tmp_path / "wheel")
    assert wheel.name == built.wheel.name
    assert _members(wheel) == _members(built.wheel)


# ---- installed


@pytest.fixture(scope="module")
def bare(make_environment: Callable[[], Any]) -> Any:
    """An environment with nothing in it but a .pth file that does nothing.

    Reading any such file costs `site` a module or two of its own.
    """
    environment = make_environment()
    (environment.site_packages / "nothing.pth").write_text("# nothing\n", encoding="utf-8")
    return environment


@pytest.fixture(scope="module")
def installed(built: Any, make_environment: Callable[[], Any]) -> Any:
    """An environment with the wheel alone: no pluggy, no torch."""
    environment = make_environment()
    environment.install(built.wheel)
    return environment


def _says(done: Any) -> str:
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return str(done.stdout).strip()


@pytest.mark.parametrize("arguments", [("--regap_weight", "0.5"), ("--cfg-path", "stage1.yaml")])
def test_an_installed_wheel_arms_a_concerned_process(installed: Any, arguments: Any) -> None:
    assert _says(installed.python(IS_ARMED, *arguments)) == "True"


def test_an_installed_wheel_leaves_other_processes_alone(installed: Any, bare: Any) -> None:
    assert _says(installed.python(IS_ARMED, "--learning_rate", "1")) == "False"
    without = set(_says(bare.python(MODULES)).split())
    with_it = set(_says(installed.python(MODULES)).split())
    # What an unconcerned interpreter pays: two small modules, and not even typing.
    assert with_it - without == {"regap_plugin", "regap_plugin.activation", "__future__"}


def test_the_command_is_there_without_pluggy_and_torch(installed: Any) -> None:
    assert _says(installed.regap("--version")) == f"regap-plugin {__version__}"
    done = installed.regap("doctor", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    assert found["activation"] == {
        "files": [str(installed.site_packages / PTH_NAME)],
        "works": True,
    }
    assert found["libraries"]["pluggy"] is None
    assert any("The plugins cannot be loaded: No module named" in line for line in found["advice"])


def test_after_an_uninstall_nothing_is_left(
    built: Any, make_environment: Callable[[], Any]
) -> None:
    environment = make_environment()
    before = _files_of(environment.site_packages)
    environment.install(built.wheel)
    assert (environment.site_packages / PTH_NAME).is_file()
    environment.pip("uninstall", "--yes", "--quiet", "regap-plugin")
    assert _files_of(environment.site_packages) == before
    assert not (environment.scripts / "regap").exists()
    assert _says(environment.python("print('fine')", "--regap_weight", "0.5")) == "fine"


def test_an_editable_install_is_activated_by_hand_and_breaks_nothing_when_gone(
    built: Any, make_environment: Callable[[], Any]
) -> None:
    environment = make_environment()
    environment.install(built.editable)
    pth = environment.site_packages / PTH_NAME
    assert not pth.exists()
    assert _says(environment.python(IS_ARMED, "--regap_weight", "0.5")) == "False"
    done = environment.regap("doctor")
    assert done.returncode == 1
    assert "run `regap activate`" in done.stdout
    assert _says(environment.regap("activate")) == (
        f"{pth}: written. `regap deactivate` removes it."
    )
    assert _says(environment.python(IS_ARMED, "--regap_weight", "0.5")) == "True"
    assert environment.regap("doctor").returncode == 0
    environment.pip("uninstall", "--yes", "--quiet", "regap-plugin")
    assert pth.is_file(), "pip does not know of it"
    for arguments in ((), ("--regap_weight", "0.5")):
        assert _says(environment.python("print('fine')", *arguments)) == "fine"


def test_deactivate_takes_the_activation_away(
    built: Any, make_environment: Callable[[], Any]
) -> None:
    environment = make_environment()
    environment.install(built.wheel)
    pth = environment.site_packages / PTH_NAME
    assert _says(environment.regap("deactivate")).startswith(f"{pth}: removed.")
    assert _says(environment.python(IS_ARMED, "--regap_weight", "0.5")) == "False"
    _says(environment.regap("activate"))
    assert _says(environment.python(IS_ARMED, "--regap_weight", "0.5")) == "True"
