from tests.builders.pictures import blank_pictures

__all__ = ["blank_pictures"]
