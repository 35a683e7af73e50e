"""A Hub on this machine, in memory: the part of the HTTP interface that `huggingface_hub` uses to push and to load.

Written after the client's own requests and the answers it documents: accounts and their tokens, private and gated
repositories, branches, tags and pull requests, LFS storage behind a redirect, `.gitignore`.
"""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

LFS_ENDINGS = (".bin", ".ckpt", ".joblib", ".parquet", ".pkl", ".pt", ".pth", ".safetensors", ".model")
ATTRIBUTES = "".join(f"*{ending} filter=lfs diff=lfs merge=lfs -text\n" for ending in LFS_ENDINGS).encode()


class HubError(Exception):
    """An answer that is no success, with the headers by which the client tells errors apart."""

    def __init__(self, status: int, message: str, code: str | None = None):
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


@dataclass
class File:
    content: bytes
    lfs: bool

    @property
    def oid(self) -> str:
        if self.lfs:
            return hashlib.sha256(self.content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()


@dataclass
class Repository:
    owner: str
    private: bool = False
    gated: bool = False
    allowed: set[str] = field(default_factory=set)
    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    refs: dict[str, str] = field(default_factory=dict)  # "main", "v1", "refs/pr/1" -> commit
    tags: set[str] = field(default_factory=set)

    def commit(self, ref: str, files: dict[str, File], message: str) -> str:
        content = repr((len(self.commits), message, sorted((name, file.oid) for name, file in files.items())))
        oid = hashlib.sha1(content.encode()).hexdigest()
        self.commits[oid], self.refs[ref] = files, oid
        self.messages.append(message)
        return oid

    def find(self, revision: str) -> str:
        if revision in self.refs:
            return self.refs[revision]
        if revision in self.commits:
            return revision
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")


class HubServer(ThreadingHTTPServer):
    """`tokens`: token -> user name. `requests`: what was asked, as `(method, path)`."""

    daemon_threads = True

    def __init__(self, tokens: dict[str, str]):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.tokens, self.repositories, self.storage = tokens, {}, {}
        self.moved: dict[str, str] = {}
        self.requests: list[tuple[str, str]] = []
        self.lock = threading.RLock()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def storage_endpoint(self) -> str:
        """Another host to the client, as the Hub's storage is: it must not be shown the token."""
        return f"http://localhost:{self.server_address[1]}"

    def files(self, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        repository = self.repositories[repo_id]
        return {name: file.content for name, file in repository.commits[repository.find(revision)].items()}

    def downloads(self) -> list[str]:
        """Paths of the files whose content was sent."""
        return [path for method, path in self.requests if method == "GET" and ("/resolve/" in path or "/cdn/" in path)]

    def repository(self, repo_id: str, user: str | None, content: bool = False, write: bool = False) -> Repository:
        repository = self.repositories.get(repo_id)
        member = repository is not None and (user == repository.owner or user in repository.allowed)
        if repository is None or (repository.private and not member):
            # Whether a private repository exists is not told; without a token, not even that it does not
            raise HubError(401 if user is None else 404, "Repository not found", "RepoNotFound")
        if content and repository.gated and not member:
            raise HubError(401 if user is None else 403, f"Access to model {repo_id} is restricted", "GatedRepo")
        if write and user is None:
            raise HubError(401, "Invalid username or password.")
        if write and user != repository.owner:
            raise HubError(403, f"You don't have the required permissions to write to {repo_id}")
        return repository


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, *arguments) -> None:
        pass

    def _answer(self) -> None:
        address = urlsplit(self.path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.server.lock:
            self.server.requests.append((self.command, unquote(address.path)))
            try:
                # A revision such as `refs/pr/1` is one quoted part of the path
                parts = [unquote(part) for part in address.path.strip("/").split("/")]
                self._route(parts, parse_qs(address.query), self._user())
            except HubError as error:
                headers = {"X-Error-Message": error.message} | ({"X-Error-Code": error.code} if error.code else {})
                self._send(error.status, {"error": error.message}, headers)

    do_GET = do_HEAD = do_POST = do_PUT = _answer

    def _user(self) -> str | None:
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        if kind != "Bearer":
            return None
        if token not in self.server.tokens:
            raise HubError(401, "Invalid credentials in Authorization header")
        return self.server.tokens[token]

    def _send(self, status: int, body: dict | list | bytes = b"", headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _route(self, parts: list[str], query: dict, user: str | None) -> None:
        hub = self.server
        match parts:
            case ["api", "whoami-v2"]:
                if user is None:
                    raise HubError(401, "Invalid username or password.")
                self._send(200, {"type": "user", "name": user, "auth": {"accessToken": {"role": "write"}}})
            case ["api", "repos", "create"]:
                self._create(json.loads(self.body), user)
            case ["api", "validate-yaml"]:
                self._send(200, {"errors": [], "warnings": []})
            case ["api", "models", owner, name, *rest]:
                self._model(f"{owner}/{name}", rest, query, user)
            case [owner, name, "info", "lfs", "objects", "batch"] if name.endswith(".git"):
                self._batch(hub.repository(f"{owner}/{name.removesuffix('.git')}", user))
            case ["storage", oid] if self.command == "PUT":
                if hashlib.sha256(self.body).hexdigest() != oid:
                    raise HubError(400, "Content does not match its hash")
                hub.storage[oid] = self.body
                self._send(200)
            case ["cdn", oid]:
                if self.headers.get("Authorization"):
                    raise HubError(400, "The storage was shown a token")
                self._send(200, hub.storage[oid])
            case [owner, name, "resolve", revision, *path]:
                self._resolve(f"{owner}/{name}", revision, "/".join(path), user)
            case _:
                raise HubError(404, f"No such page: {self.path}")

    def _create(self, asked: dict, user: str | None) -> None:
        if user is None:
            raise HubError(401, "Invalid username or password.")
        owner = asked.get("organization") or user
        repo_id = f"{owner}/{asked['name']}"
        if owner != user:
            raise HubError(403, f"You don't have the rights to create a model under the namespace {owner}")
        answer = {"url": f"{self.server.endpoint}/{repo_id}", "name": repo_id, "id": repo_id}
        if repo_id in self.server.repositories:
            return self._send(409, answer | {"error": "You already created this model repo"})
        repository = Repository(owner, private=asked.get("visibility") == "private" or bool(asked.get("private")))
        repository.commit("main", {".gitattributes": File(ATTRIBUTES, False)}, "initial commit")
        self.server.repositories[repo_id] = repository
        self._send(200, answer)

    def _model(self, repo_id: str, rest: list[str], query: dict, user: str | None) -> None:
        match rest:
            case [] | ["revision", _]:
                repository = self.server.repository(repo_id, user)
                commit = repository.find(rest[1] if rest else "main")
                files = [{"rfilename": name} for name in repository.commits[commit]]
                about = {"id": repo_id, "sha": commit, "private": repository.private, "siblings": files, "tags": []}
                self._send(200, about | {"gated": "manual" if repository.gated else False, "downloads": 0, "likes": 0})
            case ["tree", revision]:
                repository = self.server.repository(repo_id, user)
                files = repository.commits[repository.find(revision)]
                self._send(200, [_listing(name, file) for name, file in files.items()])
            case ["tree", revision, _]:
                self.server.repository(repo_id, user).find(revision)
                raise HubError(404, "No such folder", "EntryNotFound")  # none that the client looks into is there
            case ["refs"]:
                repository = self.server.repository(repo_id, user)
                kinds = {"branches": [], "tags": [], "pullRequests": [], "converts": []}
                for name, commit in repository.refs.items():
                    full, kind = f"refs/heads/{name}", "branches"
                    if name in repository.tags:
                        full, kind = f"refs/tags/{name}", "tags"
                    elif name.startswith("refs/pr/"):
                        full, kind = name, "pullRequests"
                    kinds[kind].append({"name": name, "ref": full, "targetCommit": commit})
                self._send(200, kinds)
            case ["branch" | "tag" as kind, name]:
                repository = self.server.repository(repo_id, user, write=True)
                asked = json.loads(self.body)
                start = asked.get("startingPoint", "main") if kind == "branch" else name
                name = name if kind == "branch" else asked["tag"]
                if name in repository.refs:
                    raise HubError(409, f"Reference already exists: {name}")
                repository.refs[name] = repository.find(start)
                if kind == "tag":
                    repository.tags.add(name)
                self._send(200)
            case ["preupload", revision]:
                proposal = "create_pr" in query
                repository = self.server.repository(repo_id, user, write=not proposal)
                self._preupload(repository.commits[repository.find(revision)])
            case ["commit", revision]:
                proposal = "create_pr" in query
                self._commit(repo_id, self.server.repository(repo_id, user, write=not proposal), revision, proposal)
            case _:
                raise HubError(404, f"No such page: {self.path}")

    def _preupload(self, there: dict[str, File]) -> None:
        asked, answers = json.loads(self.body), []
        hosted = there[".gitignore"].content.decode() if ".gitignore" in there else ""
        patterns = [line for line in asked.get("gitIgnore", hosted).splitlines() if line and line[0] != "#"]
        for file in asked["files"]:
            name = file["path"]
            ignored = any(fnmatch.fnmatch(part, p) for part in name.split("/") for p in patterns)
            answer = {"path": name, "uploadMode": "lfs" if name.endswith(LFS_ENDINGS) else "regular"}
            answer |= {"shouldIgnore": ignored} | ({"oid": there[name].oid} if name in there else {})
            answers.append(answer)
        self._send(200, {"files": answers})

    def _batch(self, repository: Repository) -> None:
        answers = []
        for thing in json.loads(self.body)["objects"]:
            upload = {"upload": {"href": f"{self.server.storage_endpoint}/storage/{thing['oid']}", "header": {}}}
            answers.append(thing | ({} if thing["oid"] in self.server.storage else {"actions": upload}))
        self._send(200, {"transfer": "basic", "objects": answers})

    def _commit(self, repo_id: str, repository: Repository, revision: str, proposal: bool) -> None:
        files, message = dict(repository.commits[repository.find(revision)]), ""
        for line in self.body.decode().splitlines():
            step = json.loads(line)
            key, value = step["key"], step["value"]
            if key == "header":
                message = value["summary"]
            elif key == "file":
                files[value["path"]] = File(base64.b64decode(value["content"]), False)
            elif key == "lfsFile":
                if value["oid"] not in self.server.storage:
                    raise HubError(400, f"LFS object {value['oid']} was not uploaded")
                files[value["path"]] = File(self.server.storage[value["oid"]], True)
            elif key == "deletedFile":
                if files.pop(value["path"], None) is None:
                    raise HubError(404, "A file with this name doesn't exist", "EntryNotFound")
            else:
                raise HubError(400, f"Unknown step {key}")
        number = sum(ref.startswith("refs/pr/") for ref in repository.refs) + 1
        oid = repository.commit(f"refs/pr/{number}" if proposal else revision, files, message)
        answer = {"commitUrl": f"{self.server.endpoint}/{repo_id}/commit/{oid}", "commitOid": oid}
        discussion = f"{self.server.endpoint}/{repo_id}/discussions/{number}"
        self._send(200, answer | ({"pullRequestUrl": discussion} if proposal else {}))

    def _resolve(self, repo_id: str, revision: str, name: str, user: str | None) -> None:
        if repo_id in self.server.moved:
            return self._send(307, headers={"Location": self.path.replace(repo_id, self.server.moved[repo_id], 1)})
        repository = self.server.repository(repo_id, user, content=True)
        commit = repository.find(revision)
        if name not in repository.commits[commit]:
            # With the commit: by it the client remembers that there is no such file
            headers = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found", "X-Repo-Commit": commit}
            return self._send(404, {"error": "Entry not found"}, headers)
        file = repository.commits[commit][name]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{file.oid}"', "Accept-Ranges": "bytes"}
        if not file.lfs:
            return self._send(200, file.content, headers)
        headers |= {"X-Linked-Etag": f'"{file.oid}"', "X-Linked-Size": str(len(file.content))}
        return self._send(302, headers=headers | {"Location": f"{self.server.storage_endpoint}/cdn/{file.oid}"})


def _listing(name: str, file: File) -> dict:
    lfs = {"lfs": {"oid": file.oid, "size": len(file.content), "pointerSize": 134}} if file.lfs else {}
    return {"type": "file", "path": name, "size": len(file.content), "oid": file.oid, **lfs}


__all__ = ["HubServer"]
