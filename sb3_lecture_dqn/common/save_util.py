"""Model files."""

import io
import json
import pathlib
import zipfile

from stable_baselines3.common.save_util import open_path

# Some of these are in the file of a DQN or QR-DQN, whatever `save` was told to leave out, and in that of no other.
_DQN_SETTINGS = {"exploration_initial_eps", "exploration_final_eps", "exploration_fraction", "target_update_interval"}


def check_is_model(path: str | pathlib.Path | io.BufferedIOBase, name: str, quantiles: bool) -> None:
    """
    Check that a file is one of a DQN's, before anything in it is unpickled.

    :param path: The file, with or without ``.zip``, or an open one, which is left at its start.
    :param name: What the message calls the model.
    :param quantiles: Whether it has to be that of a QR-DQN.
    :raises ValueError: If it is not a zip file, or one without the settings and the weights of such a DQN.
    """
    file = open_path(path, "r", verbose=0, suffix="zip")
    try:
        with zipfile.ZipFile(file) as archive:
            if missing := {"data", "policy.pth"} - set(archive.namelist()):
                raise ValueError(f"it has no member {', '.join(map(repr, sorted(missing)))}")
            settings = json.loads(archive.read("data"))
            if not isinstance(settings, dict) or not settings.keys() & _DQN_SETTINGS:
                raise ValueError("its settings are not those of a DQN")
            if ("n_quantiles" in settings) != quantiles:
                raise ValueError(f"its settings are those of {'a DQN, not of a QR-DQN' if quantiles else 'a QR-DQN'}")
    except (zipfile.BadZipFile, ValueError) as error:
        raise ValueError(f"path={str(path)!r} holds no {name} model: {error}") from error
    finally:
        if file is path:
            file.seek(0)
        else:
            file.close()
