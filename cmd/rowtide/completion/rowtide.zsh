#compdef rowtide
# Completion of rowtide for zsh: source <(rowtide completion zsh)
_rowtide() {
  local line
  local -a items
  for line in "${(@f)$("${words[1]}" __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
    if [[ $line == :files ]]; then
      _files
      return
    fi
    [[ -n $line ]] && items+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
  done
  _describe rowtide items
}
if [[ ${funcstack[1]} == _rowtide ]]; then
  _rowtide "$@"
else
  compdef _rowtide rowtide
fi
