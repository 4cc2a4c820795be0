# Completion of rowtide for fish: rowtide completion fish | source
function __rowtide_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l lines ($words[1] __complete -- $words[2..-1] "$current" 2>/dev/null)
    if test "$lines[1]" = ":files"
        __fish_complete_path "$current"
        return
    end
    printf '%s\n' $lines
end
complete -c rowtide -f -a '(__rowtide_complete)'
