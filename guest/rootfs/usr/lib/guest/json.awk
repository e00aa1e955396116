# Flattens JSON to lines "path.of.keys<TAB>value"; escapes in strings stay, but for \" \/ and \\.
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
        print path "\t" text(token)
        next_token()
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
