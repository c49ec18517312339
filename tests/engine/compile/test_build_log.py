"""Why a build stopped, from what cmake, ninja and compilers really print."""

from __future__ import annotations

import pytest

from launcher.engine.compile.build_log import ERROR_LINES, BuildFault, parse_step, read_failure

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
    failure = read_failure(tuple(GCC.splitlines()))
    assert failure.fault is BuildFault.CODE
    assert failure.lines == (
        "../source/src/main.cpp:4:57: error: 'no_such_thing' was not declared in this scope",
    )


def test_the_linkers_error() -> None:
    failure = read_failure(tuple(LINKER.splitlines()))
    assert failure.lines == (
        "main.cpp:(.text.startup+0x5): undefined reference to `gone()'",
        "collect2: error: ld returned 1 exit status",
    )


def test_cmakes_error_with_its_message_and_without_its_call_stack() -> None:
    assert read_failure(tuple(CMAKE.splitlines())).lines == (
        "CMake Error at ggml/src/ggml-vulkan/CMakeLists.txt:8 (find_package):",
        "Could NOT find Vulkan (missing: Vulkan_LIBRARY)",
        '(found version "1.3.239")',
    )


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("/tmp/cc1.s: fatal error: error writing to /tmp/cc1.s: No space left on device", BuildFault.DISK),
        ("c++: fatal error: Killed signal terminated program cc1plus", BuildFault.MEMORY),
        ("cc1plus: out of memory allocating 65536 bytes after a total of 1 bytes", BuildFault.MEMORY),
        ("x.cpp:1:1: error: expected unqualified-id", BuildFault.CODE),
        ("ninja: fatal: write(build.ninja): No space left on device", BuildFault.DISK),
    ],
)
def test_causes(line: str, cause: BuildFault) -> None:
    failure = read_failure(("[1/2] something", line))
    assert (failure.fault, line) == (cause, failure.lines[-1])


def test_a_compiler_without_a_c_library() -> None:
    assert read_failure(tuple(NO_LIBC.splitlines())).fault is BuildFault.COMPILER


def test_a_flood_of_errors_is_cut_and_silence_is_bearable() -> None:
    flood = tuple(f"x.cpp:{line}:1: error: again" for line in range(100))
    assert read_failure(flood).lines == flood[-ERROR_LINES:]
    assert read_failure(()).lines == ()
    assert read_failure(("something odd",)).lines == ("something odd",)


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
