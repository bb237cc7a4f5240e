# bash completion for deferctl(1)

_deferctl() {
    local cur prev words cword command="" i
    _init_completion 2>/dev/null || {
        cur=${COMP_WORDS[COMP_CWORD]}
        prev=${COMP_WORDS[COMP_CWORD - 1]}
        words=("${COMP_WORDS[@]}")
        cword=$COMP_CWORD
    }
    local commands="status pools list show stop pause resume drain reload upgrade fpm-reload quit help top"
    local -a socket=()
    for ((i = 1; i < cword; i++)); do
        case ${words[i]} in
            -s | --socket | -c | --config)
                socket=("${words[i]}" "${words[i + 1]}")
                ((i++))
                ;;
            -*) ;;
            *)
                command=${words[i]}
                break
                ;;
        esac
    done
    case $prev in
        -s | --socket | -c | --config)
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
            ;;
    esac
    local choices=""
    case $command in
        "") choices="$commands -s --socket -c --config -j --json -h --help -v --version" ;;
        list) choices="--all --running --stopped --completed --failed --lost --json" ;;
        stop) choices="--force $(_deferctl_column 1 "${socket[@]}" list)" ;;
        top) choices="-n -d --json" ;;
        show) choices=$(_deferctl_column 1 "${socket[@]}" list --all) ;;
        pause | resume | drain | fpm-reload)
            choices=$(_deferctl_column 1 "${socket[@]}" pools | grep -vxE 'upstream|class')
            ;;
        *) choices="--json" ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$cur")
}

# A column of what deferctl prints, without its head.
_deferctl_column() {
    local column=$1
    shift
    deferctl "$@" 2>/dev/null | awk -v column="$column" 'NR > 1 { print $column }'
}

complete -F _deferctl deferctl
