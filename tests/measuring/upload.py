"""What FreedomBox itself does with an uploaded backup (its backups' `restore_exported_archive`, up to 25.9): Python's
tarfile, one member after the other, if it lies below the folders of an app. Started by measure.py.

usage: upload.py BACKUP OUT FOLDER…
"""

import sys
import tarfile
import warnings

# Later versions of Python ask for a filter; FreedomBox names none.
warnings.simplefilter("ignore")
backup, out, *folders = sys.argv[1:]
with tarfile.open(backup) as archive:
    for member in archive:
        if any(("/" + member.name).startswith(folder) for folder in folders):
            archive.extract(member, out)
