# Reads meta_data.json; writes its uuid, hostname and public keys to the files instance-id, hostname and keys in `to`.
# Escapes in strings stay, but for \" \/ \\ and, between keys, \n.
function value(path,    key, n) {
    if (token == "{") {
        next_token()
        while (token != "}" && token != "") {
            key = text(token)
            next_token(); next_token()
            value(path == "" ? key : path "." key)
            if (token == ",") next_token()
        }
        next_token()
    } else if (token == "[") {
        next_token()
        for (n = 0; token != "]" && token != ""; n++) {
            value(path "." n)
            if (token == ",") next_token()
        }
        next_token()
    } else {
        found(path, text(token))
        next_token()
    }
}
function found(path, value,    n, lines, i) {
    if (path == "uuid") print value >(to "/instance-id")
    else if (path == "hostname") print value >(to "/hostname")
    else if (path ~ /^public_keys\./) {
        n = split(value, lines, /\\n/)
        for (i = 1; i <= n; i++) if (lines[i] !~ /^ *$/) print lines[i] >(to "/keys")
    }
}
function next_token() {
    sub(/^[ \t\r\n]+/, "", rest)
    if (match(rest, /^"([^"\\]|\\.)*"/) || match(rest, /^[^][{}:,"]+/) || match(rest, /^./)) {
        token = substr(rest, 1, RLENGTH)
        rest = substr(rest, RLENGTH + 1)
    } else
        token = ""
}
function text(t) {
    if (t !~ /^"/) { sub(/[ \t\r\n]+$/, "", t); return t }
    t = substr(t, 2, length(t) - 2)
    gsub(/\\"/, "\"", t); gsub(/\\\//, "/", t); gsub(/\\\\/, "\\", t)
    return t
}
{ rest = rest $0 "\n" }
END { next_token(); value("") }
