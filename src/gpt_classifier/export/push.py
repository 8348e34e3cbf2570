"""An exported folder on the Hugging Face Hub."""

from pathlib import Path

from gpt_classifier.errors import UserError, first_line
from gpt_classifier.hub import expect_hub


def expect_account(name: str) -> None:
    """Refuse what would fail after minutes: no token, no network, no name of a repository.

    Args:
        name: of the repository, `user/name` or `name`.

    Raises:
        UserError: one of them.
    """
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UserError(f"--push: expected a repository such as me/spam, but it is {name!r}. {error}") from error
    if constants.HF_HUB_OFFLINE:
        raise UserError(
            "--push: the environment variable HF_HUB_OFFLINE forbids the network. Unset it, or leave out --push."
        )
    try:
        expect_hub()
    except OSError as error:
        raise UserError(f"--push: {first_line(error)} Connect to the network, or leave out --push.") from error
    if get_token() is None:
        raise UserError(
            "--push: the Hugging Face Hub asks for a token, and there is none. Run hf auth login once, or set the "
            "environment variable HF_TOKEN to a token with write access."
        )


def upload(folder: Path, name: str, public: bool = False) -> str:
    """Upload a folder as a model; what else is in the repository stays.

    Args:
        folder: to upload.
        name: of the repository, made where there is none.
        public: make it public, or take one that is.

    Returns:
        Its address.

    Raises:
        UserError: the Hub refuses it, or the repository is public and `public` is not set.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        made = api.create_repo(name, private=not public, exist_ok=True)
        seen = public or bool(api.model_info(made.repo_id).private)
        if seen:
            api.upload_folder(repo_id=made.repo_id, folder_path=folder, commit_message="Export of gpt-classifier")
    except Exception as error:  # whatever its HTTP library of the day raises
        raise UserError(
            f"--push: {name} could not be uploaded: {first_line(error)} The export is whole in {folder}: hf upload "
            f"{name} {folder} tries again."
        ) from error
    if not seen:
        raise UserError(
            f"--push: {made.repo_id} is there already, and public. Nothing was uploaded. Add --public if everybody may "
            f"see the model, or name another repository."
        )
    return str(made)
