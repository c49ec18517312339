"""Why a build stopped, from what cmake, ninja and compilers really print."""

from __future__ import annotations

import pytest

from launcher.engine.compile.build_log import ERROR_LINES, Cause, explain, parse_step

GCC = """\
[3/9] Building CXX object CMakeFiles/x.dir/main.cpp.o
FAILED: CMakeFiles/x.dir/main.cpp.o
/usr/bin/c++ -O3 -o CMakeFiles/x.dir/main.cpp.o -c ../source/src/main.cpp
../source/src/main.cpp: In function 'int main()':
../source/src/main.cpp:4:57: error: 'no_such_thing' was not declared in this scope
    4 |     no_such_thing();
      |     ^~~~~~~~~~~~~
[4/9] Building CXX object CMakeFiles/x.dir/other.cpp.o
ninja: build stopped: subcommand failed.
"""
LINKER = """\
FAILED: bin/llama-server
/usr/bin/ld: CMakeFiles/x.dir/main.cpp.o: in function `main':
main.cpp:(.text.startup+0x5): undefined reference to `gone()'
collect2: error: ld returned 1 exit status
ninja: build stopped: subcommand failed.
"""
CMAKE = """\
-- The CXX compiler identification is GNU 12.2.0
CMake Error at ggml/src/ggml-vulkan/CMakeLists.txt:8 (find_package):
  Could NOT find Vulkan (missing: Vulkan_LIBRARY)
  (found version "1.3.239")
Call Stack (most recent call first):
  CMakeLists.txt:1 (project)

-- Configuring incomplete, errors occurred!
"""
NO_LIBC = """\
CMake Error at CMakeTestCCompiler.cmake:67 (message):
  The C compiler

    "/usr/bin/cc"

  is not able to compile a simple test program.
"""


def test_the_compilers_error_is_told_not_the_code_around_it() -> None:
    failure = explain(tuple(GCC.splitlines()))
    assert failure.cause is Cause.CODE
    assert failure.lines == (
        "../source/src/main.cpp:4:57: error: 'no_such_thing' was not declared in this scope",
    )


def test_the_linkers_error() -> None:
    failure = explain(tuple(LINKER.splitlines()))
    assert failure.lines == (
        "main.cpp:(.text.startup+0x5): undefined reference to `gone()'",
        "collect2: error: ld returned 1 exit status",
    )


def test_cmakes_error_with_its_message_and_without_its_call_stack() -> None:
    assert explain(tuple(CMAKE.splitlines())).lines == (
        "CMake Error at ggml/src/ggml-vulkan/CMakeLists.txt:8 (find_package):",
        "Could NOT find Vulkan (missing: Vulkan_LIBRARY)",
        '(found version "1.3.239")',
    )


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("/tmp/cc1.s: fatal error: error writing to /tmp/cc1.s: No space left on device", Cause.DISK),
        ("c++: fatal error: Killed signal terminated program cc1plus", Cause.MEMORY),
        ("cc1plus: out of memory allocating 65536 bytes after a total of 1 bytes", Cause.MEMORY),
        ("x.cpp:1:1: error: expected unqualified-id", Cause.CODE),
        ("ninja: fatal: write(build.ninja): No space left on device", Cause.DISK),
    ],
)
def test_causes(line: str, cause: Cause) -> None:
    failure = explain(("[1/2] something", line))
    assert (failure.cause, line) == (cause, failure.lines[-1])


def test_a_compiler_without_a_c_library() -> None:
    assert explain(tuple(NO_LIBC.splitlines())).cause is Cause.COMPILER


def test_a_flood_of_errors_is_cut_and_silence_is_bearable() -> None:
    flood = tuple(f"x.cpp:{line}:1: error: again" for line in range(100))
    assert explain(flood).lines == flood[-ERROR_LINES:]
    assert explain(()).lines == ()
    assert explain(("something odd",)).lines == ("something odd",)


@pytest.mark.parametrize(
    ("line", "step"),
    [
        ("[12/345] Building CXX object a/b.cpp.o", (12, 345, "Building CXX object a/b.cpp.o")),
        ("-- [12/345]", None),
        ("[12/] x", None),
        ("", None),
    ],
)
def test_steps(line: str, step: tuple[int, int, str] | None) -> None:
    assert parse_step(line) == step
