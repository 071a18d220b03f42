"""`micro completion`: what teaches bash, zsh and fish to complete the words of `micro`.

A script asks this program: `_MICRO_COMPLETE` is the shell and `COMP_LINE` the command line up to
the cursor. The answer has a line a candidate, its parts separated by tabs: ``plain``, ``dir`` or
``file``, the whole word, and what it is.
"""

from __future__ import annotations

import contextlib
import os
import re

import click

from .render import one_line

# The words that bash replaces end at = : and @ too, so what stands before that is left out.
_BASH = r"""_micro_completion() {
    local line=${COMP_LINE:0:COMP_POINT} current=${COMP_WORDS[COMP_CWORD]} kind value about
    local word=${line##*[[:space:]]} head=
    [[ $current == [=:@] ]] && current=
    [[ $word == *"$current" ]] && head=${word%"$current"}
    COMPREPLY=()
    while IFS=$'\t' read -r kind value about; do
        case $kind in
            plain)
                printf -v value %q "${value#"$head"}"
                COMPREPLY+=("$value") ;;
            dir) compopt -o filenames -o plusdirs ;;
            file) compopt -o filenames -o default ;;
        esac
    done < <(_MICRO_COMPLETE=bash COMP_LINE="$line" "${1/#\~/$HOME}" </dev/null)
} 2>/dev/null

complete -o nosort -F _micro_completion micro 2>/dev/null || complete -F _micro_completion micro
"""

_ZSH = r"""#compdef micro

_micro_completion() {
    local kind value about line="${(j: :)words[1,CURRENT-1]} $PREFIX"
    local -a described
    local -i folders=0 files=0
    while IFS=$'\t' read -r kind value about; do
        case $kind in
            plain) described+=("${value//:/\\:}${about:+:$about}") ;;
            dir) folders=1 ;;
            file) files=1 ;;
        esac
    done < <(_MICRO_COMPLETE=zsh COMP_LINE="$line" ${~words[1]} </dev/null 2>/dev/null)
    (( $#described )) && _describe -V micro described
    (( folders )) && _path_files -/
    (( files )) && _path_files
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _micro_completion "$@"
else
    compdef _micro_completion micro
fi
"""

_FISH = r"""function _micro_completion
    set -l line (commandline -cp)
    set -l words (commandline -opc)
    set -l program (string replace -r '^~' $HOME -- $words[1])
    for row in (env _MICRO_COMPLETE=fish COMP_LINE="$line" $program </dev/null 2>/dev/null)
        set -l part (string split -m2 \t -- $row)
        switch $part[1]
            case plain
                printf '%s\t%s\n' $part[2] "$part[3]"
            case dir
                __fish_complete_directories (commandline -ct)
            case file
                __fish_complete_path (commandline -ct)
        end
    end
end

complete --no-files --keep-order --command micro --arguments '(_micro_completion)'
"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}

_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")


@click.command(short_help="Print the completion script of a shell")
@click.argument("shell", type=click.Choice(list(SCRIPTS)))
def completion(shell: str) -> str:
    """Print the completion script of a shell.

    bash:  eval "$(micro completion bash)" in ~/.bashrc
    zsh:   eval "$(micro completion zsh)" in ~/.zshrc, below compinit
    fish:  micro completion fish > ~/.config/fish/completions/micro.fish
    """
    return SCRIPTS[shell].rstrip()


def answer(root: click.Group) -> int:
    """Print the candidates that a script has asked for; whatever goes wrong, it says nothing."""
    with contextlib.suppress(Exception):
        # Imported here: printing a script does without it.
        from .candidates import following

        *before, incomplete = split(os.environ.get("COMP_LINE", ""))
        for item in following(root, _after_program(before), incomplete):
            print(item.type, item.value, one_line(item.help or ""), sep="\t")
    return 0


def split(line: str) -> list[str]:
    """The words of a command line up to the cursor; the last one, maybe empty, is unfinished."""
    import shlex

    # A mark that belongs to the last word, even within quotes or after a backslash.
    mark = "\0"
    lexer = shlex.shlex(line + mark, posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    try:
        words.extend(lexer)
    except ValueError:
        words.append(lexer.token)
    return [word.removesuffix(mark) for word in words]


def _after_program(words: list[str]) -> list[str]:
    at = next((at for at, word in enumerate(words) if not _ASSIGNMENT.match(word)), len(words))
    return words[at + 1 :]
