def install_scripted_modules() -> None:
    pass
