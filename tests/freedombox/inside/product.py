"""Uses FreedomBox's own code, of whatever version is installed. Runs in a box, as the user plinth.

product.py first-boot USER PASSWORD     makes an administrator and ends the wizard
product.py person USER PASSWORD ADMIN WORD    makes another administrator; ADMIN's password is WORD
product.py guest USER PASSWORD ADMIN WORD     makes a person who is in no group, where there is none of this name
product.py install APP…                 installs and sets up apps, one after the other
product.py backup FILE APP…             makes a backup of these apps (all where none is named), downloads it to FILE
product.py diagnose APP…                what FreedomBox's own diagnostics say
product.py notifications                the notifications as FreedomBox shows them
product.py run FILE                     runs a Python file with `mod(NAME)` at hand
"""

import importlib
import importlib.util
import json
import os
import sys
import time

PACKAGE = "freedombox" if importlib.util.find_spec("freedombox") else "plinth"


def mod(name):
    """A module of FreedomBox."""
    return importlib.import_module(f"{PACKAGE}.{name}")


def begin():
    """Loads FreedomBox as its service does."""
    mod("cfg").read()
    mod("log").init()
    framework = mod("web_framework")
    framework.init()
    framework.post_init()
    loader = mod("module_loader")
    loader.include_urls()
    mod("menu").init()
    loader.load_modules()
    app = mod("app")
    app.apps_init()
    app.apps_post_init()
    return app


def first_boot(user, password):
    """What the wizard does."""
    from django.contrib.auth.models import Group, User

    account = User.objects.filter(username=user).first() or User.objects.create_user(user, password=password)
    privileged = mod("modules.users.privileged")
    privileged.create_user(user, password)
    privileged.add_user_to_group(user, "admin")
    Group.objects.get_or_create(name="admin")[0].user_set.add(account)
    steps = mod("modules.first_boot")
    for step in steps._get_steps():
        steps.mark_step_done(step["id"])
    steps.set_completed()


def guest(user, password, admin, word):
    """A person in no group, as the page of users makes one."""
    from django.contrib.auth.models import User

    if User.objects.filter(username=user).exists():
        return
    User.objects.create_user(user, password=password)
    mod("modules.users.privileged").create_user(user, password, admin, word)


def person(user, password, admin, word):
    """Another administrator."""
    from django.contrib.auth.models import Group, User

    guest(user, password, admin, word)
    mod("modules.users.privileged").add_user_to_group(user, "admin", admin, word)
    Group.objects.get_or_create(name="admin")[0].user_set.add(User.objects.get(username=user))


def install(*apps):
    """Installs apps, one after the other; says of each how long it took, or why it did not work."""
    for app in apps:
        begun, why = time.monotonic(), None
        try:
            operation = mod("setup").run_setup_on_app(app)
            if operation:
                operation.join()
        except Exception as exception:
            why = " ".join(f"{type(exception).__name__}: {exception}".split())[-300:]
        took = round(time.monotonic() - begun)
        print(json.dumps({"installed": app, "seconds": took, "why": why}), flush=True)


def backup(file, *apps):
    """Makes a backup in the box's own repository and writes it as the Backups page's download."""
    repository = mod("modules.backups.repository").RootBorgRepository()
    chosen = list(apps) or [part.app.app_id for part in mod("modules.backups.api").get_all_components_for_backup()]
    repository.create_archive("for the tests", chosen)
    with open(file, "wb") as out:
        for part in repository.get_download_stream("for the tests"):
            out.write(part)
    print(json.dumps(chosen))


def failing(app):
    """An app's failed checks."""
    checks = application.App.get(app).diagnose()
    bad = [check for check in checks if str(getattr(check, "result", None) or check[1]) not in GOOD]
    return [str(getattr(check, "check_id", None) or check[0]) for check in bad]


def diagnose(*apps):
    """Prints each app's failed checks as JSON: what fails now, and still does a while later. FreedomBox restarts mail
    servers and others whenever it is loaded, here as well."""
    found = {app: failing(app) for app in apps}
    if any(found.values()):
        time.sleep(40)
        found = {app: bad and [check for check in failing(app) if check in bad] for app, bad in found.items()}
    print(json.dumps(found))


GOOD = {"passed", "Result.PASSED", "skipped", "not_done", "StrEnum.PASSED"}


def notifications():
    """Prints the notifications as JSON."""
    listed = mod("notification").Notification.list()
    print(json.dumps([
        {"id": note.id, "app": note.app_id, "title": note.title, "message": note.message, "severity": note.severity,
         "dismissed": note.dismissed} for note in listed
    ]))


def run(file):
    """Runs a file."""
    with open(file, encoding="utf-8") as text:
        exec(compile(text.read(), file, "exec"), {"mod": mod})


if __name__ == "__main__":
    application = begin()
    commands = {"first-boot": first_boot, "guest": guest, "person": person, "install": install, "backup": backup,
                "diagnose": diagnose, "notifications": notifications, "run": run}
    status = 0
    try:
        commands[sys.argv[1]](*sys.argv[2:])
    except Exception:
        import traceback

        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # FreedomBox leaves threads behind that would keep the process.
    os._exit(status)
