from __future__ import annotations

import pytest

from quatrain.errors import UsageError
from quatrain.hpc import site_registry


def test_every_site_of_the_package_is_found_by_its_name():
    assert {"local", "local-threads", "perlmutter", "slurm"} <= set(site_registry.names())
    for name in site_registry.names():
        assert site_registry.find(name).name == name


def test_an_underscore_stands_for_a_dash():
    assert site_registry.find("local_threads") == site_registry.find("local-threads")


def test_an_unknown_site_is_answered_with_the_nearest_one():
    with pytest.raises(UsageError, match="did you mean 'perlmutter'"):
        site_registry.find("perlmuter")


def test_a_file_with_a_function_site_is_a_site(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from quatrain.hpc.site import Site\n"
        "def site():\n    return Site(name='mine', description='', cpus_per_node=2, gpu_workers=1)\n"
    )

    assert site_registry.find(str(path)).name == "mine"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\n", r"has no function site\(\)"),
        ("def site():\n    return 3\n", "returns a int"),
        ("def site(:\n", "does not load: SyntaxError"),
        ("import nothing_like_this\n", "does not load: ModuleNotFoundError"),
    ],
)
def test_a_site_file_that_is_none_says_why(tmp_path, text, said):
    path = tmp_path / "mine.py"
    path.write_text(text)

    with pytest.raises(UsageError, match=said):
        site_registry.find(str(path))


def test_a_site_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"there is no site file .*mine\.py"):
        site_registry.find(str(tmp_path / "mine.py"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 / 0", "does not load: ZeroDivisionError"),
        ("def site():\n    return {}['NERSC_HOST']", r"site\(\) of .* fails: KeyError"),
        (
            "from quatrain.hpc.site import Site\ndef site():\n    return Site(name='x', cpus=3)",
            "unexpected keyword argument",
        ),
    ],
)
def test_whatever_goes_wrong_in_a_site_file_is_reported_in_one_line(text, words, tmp_path):
    (tmp_path / "mine.py").write_text(text)

    with pytest.raises(UsageError, match=words) as caught:
        site_registry.find(str(tmp_path / "mine.py"))

    assert "\n" not in str(caught.value)


def test_an_installed_package_adds_a_site(tmp_path, monkeypatch, capsys):
    info = tmp_path / "my_sites-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-sites\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[quatrain.sites]\nmy_cluster = my_sites_of_a_test:site\nlocal = my_sites_of_a_test:site\n"
        "torn = no_such_module:site\n"
    )
    (tmp_path / "my_sites_of_a_test.py").write_text(
        "from quatrain.hpc.site import Site\n\n\ndef site():\n"
        "    return Site(name='my-cluster', description='a site of another package', cpus_per_node=8, gpu_workers=2)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    assert "my-cluster" in site_registry.names()
    assert site_registry.find("my_cluster").description == "a site of another package"
    assert site_registry.find("local").name == "local"
    with pytest.raises(UsageError, match="'torn' of an installed package does not load: ModuleNotFoundError"):
        site_registry.find("torn")
